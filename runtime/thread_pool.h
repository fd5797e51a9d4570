#pragma once

#include <sys/types.h>

#include <cstddef>

namespace moa {

// Parallel loops on one set of worker threads of the process, made on demand, shared by every run, and never ended: runs work
// until the process is gone, in destructors of static objects too.
//
// A worker is the library's, not that of the thread whose loop made it: it takes no signal but those of its own faults, has the
// library's floating-point state, the process's cores and its main thread's scheduling policy, and a stack of kStackBytes. A child
// of fork() has no workers until its first loop makes them. The code that workers run stays loaded after dlclose.
class ThreadPool {
public:
    using Body = int (*)(void *context, int index);  // 0, or an error

    static constexpr size_t kStackBytes = size_t{1} << 20;

    static ThreadPool &instance();

    // Calls body for 0 ... count - 1 on at most `threads` threads, the caller's included, and returns the error of the
    // lowest index that failed, or 0. Any number of threads may call it at once. A call from within a body runs serially.
    // Allocates only to start workers that do not exist yet; goes on with fewer if the system has no more threads.
    int parallel_for(int threads, int count, Body body, void *context);

    // Which of its loop's threads the current one is: 0 for the caller, below `threads`.
    static int current_slot();

    bool is_worker(pid_t thread) const;
    // Workers follow the process when its cores have changed since they were made. Plans call it, runs do not.
    void follow_process();
    // In a child of fork(): no worker is there.
    void forget_workers();

    ThreadPool(const ThreadPool &) = delete;
    ThreadPool &operator=(const ThreadPool &) = delete;

private:
    constexpr ThreadPool() = default;
    static ThreadPool pool;
};

}  // namespace moa
