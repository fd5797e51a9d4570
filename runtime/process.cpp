#include "runtime/process.h"

#include "runtime/thread_pool.h"

#include <pthread.h>

namespace moa {

namespace {

constinit std::atomic<uint32_t> forks{0};

void in_child() {
    forks.fetch_add(1, std::memory_order_relaxed);
    ThreadPool::instance().forget_workers();
}

// Before constructors of other static objects, which may run plans.
[[gnu::constructor(101)]] void watch_forks() {
    (void)pthread_atfork(nullptr, nullptr, in_child);
}

}  // namespace

uint32_t fork_generation() {
    return forks.load(std::memory_order_relaxed);
}

bool Once::begin() {
    const uint32_t making = kMaking + fork_generation();
    for (uint32_t state = state_.load(std::memory_order_acquire); state != kDone;) {
        if (state == making) {
            state_.wait(state, std::memory_order_acquire);
            state = state_.load(std::memory_order_acquire);
        } else if (state_.compare_exchange_strong(state, making, std::memory_order_acquire)) {
            return true;
        }
    }
    return false;
}

void Once::end(bool done) {
    state_.store(done ? kDone : kNone, std::memory_order_release);
    state_.notify_all();
}

}  // namespace moa
