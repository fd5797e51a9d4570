#pragma once

#include <atomic>
#include <cstdint>

// The library as a guest of a process: its one handler of fork(), and what is made once a process.
//
// A child has no thread that could release a lock which its parent's threads held. So what is made once waits on `Once`, the
// pool of threads begins anew (runtime/thread_pool.h), and a child never reaches the locks of CUDA's state
// (runtime/cuda/driver.h); fork() itself waits for nothing. Objects of the process are never destroyed: runs in destructors of
// static objects find them whole.
namespace moa {

// How many calls of fork() lie between this process and the one that loaded the library.
uint32_t fork_generation();

// std::call_once, but for three things: a child of fork() begins again if a thread of its parent was at it, since that thread
// is not there; what fails is tried again by the next caller; and it needs no destructor.
class Once {
public:
    constexpr Once() = default;

    // Calls make() unless an earlier call of it has returned true. If it throws or returns false, it was not called.
    template<class Make>
    void call(const Make &make) {
        if (state_.load(std::memory_order_acquire) == kDone || !begin()) {
            return;
        }
        struct Ending {
            Once &once;
            bool done = false;
            ~Ending() {
                once.end(done);
            }
        } ending{*this};
        ending.done = make();
    }

private:
    static constexpr uint32_t kNone = 0, kDone = 1, kMaking = 2;

    bool begin();  // false: another thread has made it
    void end(bool done);

    std::atomic<uint32_t> state_{kNone};  // kMaking + g: a thread of the process of generation g is at it
};

}  // namespace moa
