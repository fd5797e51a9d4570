#pragma once

namespace moa {

// Parallel loops on one set of worker threads of the process, made on demand and shared by every run.
class ThreadPool {
public:
    using Body = int (*)(void *context, int index);  // 0, or an error

    static ThreadPool &instance();

    // Calls body for 0 ... count - 1 on at most `threads` threads, the caller's included, and returns the error of the
    // lowest index that failed, or 0. Any number of threads may call it at once. A call from within a body runs serially.
    // Allocates only to start workers that do not exist yet.
    int parallel_for(int threads, int count, Body body, void *context);

    // Which of its loop's threads the current one is: 0 for the caller, below `threads`.
    static int current_slot();

    ThreadPool(const ThreadPool &) = delete;
    ThreadPool &operator=(const ThreadPool &) = delete;

private:
    ThreadPool();
    ~ThreadPool();
    struct Impl;
    Impl *impl_;
};

}  // namespace moa
