#pragma once

#include "runtime/cores.h"

#include <csignal>
#include <cstddef>
#include <pthread.h>
#include <sys/types.h>

namespace moa {

// Makes detached threads that take none of the calling thread's traits. Signals stay blocked on the caller while this lives,
// since a thread begins with its maker's mask.
class WorkerMaker {
public:
    WorkerMaker(const CoreSet &cores, size_t stack_bytes);
    ~WorkerMaker();
    WorkerMaker(const WorkerMaker &) = delete;
    WorkerMaker &operator=(const WorkerMaker &) = delete;

    bool make(void *(*body)(void *), void *argument);

private:
    pthread_attr_t attributes_;
    bool has_attributes_;
    sigset_t callers_mask_;
};

// What a worker does first, on itself: floating-point state, scheduling policy, name. Its number.
pid_t settle_worker();

void place_worker(pid_t thread, const CoreSet &cores);

}  // namespace moa
