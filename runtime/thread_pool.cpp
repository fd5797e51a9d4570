#include "runtime/thread_pool.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <exception>
#include <limits>
#include <mutex>
#include <thread>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace moa {

namespace {

// Kernels of 20 us to a few ms follow each other within a run: a worker that slept between them would lose tens of
// microseconds to each wake-up, so it looks for work for a while first.
constexpr auto kSpin = std::chrono::microseconds(100);
constexpr int kMaxWorkers = 1024;

thread_local int slot_of_thread = 0;
thread_local bool in_loop = false;

void relax() {
#if defined(__x86_64__)
    _mm_pause();
#endif
}

struct Loop {
    int threads, count;
    ThreadPool::Body body;
    void *context;
    std::atomic<int64_t> next{0};
    int joined = 1;              // under the pool's mutex; the caller is thread 0
    std::atomic<int> inside{0};  // workers inside; changed under the mutex
    Loop *newer = nullptr;       // the pool's list, under its mutex
    std::mutex error_mutex;
    int64_t error_index = std::numeric_limits<int64_t>::max();
    int error = 0;

    // Indices are handed out in order: when one fails, those below it are done or under way, those above need not begin.
    void work(int slot) {
        const int outer_slot = slot_of_thread;
        slot_of_thread = slot;
        in_loop = true;
        for (int64_t index = next.fetch_add(1, std::memory_order_relaxed); index < count; index = next.fetch_add(1, std::memory_order_relaxed)) {
            if (const int result = body(context, static_cast<int>(index)); result != 0) {
                next.store(count, std::memory_order_relaxed);
                const std::lock_guard lock(error_mutex);
                if (index < error_index) {
                    error_index = index;
                    error = result;
                }
            }
        }
        in_loop = false;
        slot_of_thread = outer_slot;
    }
};

}  // namespace

struct ThreadPool::Impl {
    std::mutex mutex;
    Loop *oldest = nullptr;  // loops that workers may join
    std::vector<std::thread> workers;
    int wanted = 0;                   // by all loops of the list
    std::atomic<uint32_t> posted{0};  // counts loops; workers wait on it
    std::atomic<bool> stop{false};

    // A loop that still wants a thread, joined; null if there is none.
    Loop *join(int &slot) {
        const std::lock_guard lock(mutex);
        for (Loop *loop = oldest; loop != nullptr; loop = loop->newer) {
            if (loop->joined < loop->threads && loop->next.load(std::memory_order_relaxed) < loop->count) {
                slot = loop->joined++;
                loop->inside++;
                return loop;
            }
        }
        return nullptr;
    }

    void leave(Loop *loop) {
        const std::lock_guard lock(mutex);
        loop->inside--;
    }

    void worker() {
        for (uint32_t seen = posted.load(); !stop; seen = posted.load()) {
            int slot = 0;
            while (Loop *loop = join(slot)) {
                loop->work(slot);
                leave(loop);
            }
            const auto until = std::chrono::steady_clock::now() + kSpin;
            while (posted.load(std::memory_order_relaxed) == seen && std::chrono::steady_clock::now() < until) {
                relax();
            }
            posted.wait(seen);
        }
    }

    // A loop goes on with fewer threads when the system has no more of them.
    void start_workers() {
        try {
            while (static_cast<int>(workers.size()) < std::min(wanted, kMaxWorkers)) {
                workers.emplace_back([this] { worker(); });
            }
        } catch (const std::exception &) {
        }
    }

    void post(Loop *loop) {
        {
            const std::lock_guard lock(mutex);
            Loop **last = &oldest;
            while (*last != nullptr) {
                last = &(*last)->newer;
            }
            *last = loop;
            wanted += loop->threads - 1;
            start_workers();
        }
        posted++;
        posted.notify_all();
    }

    // Takes the loop off the list and waits for the workers inside to leave it.
    void retire(Loop *loop) {
        {
            const std::lock_guard lock(mutex);
            Loop **link = &oldest;
            while (*link != loop) {
                link = &(*link)->newer;
            }
            *link = loop->newer;
            wanted -= loop->threads - 1;
        }
        const auto until = std::chrono::steady_clock::now() + kSpin;
        while (loop->inside.load() != 0) {
            std::chrono::steady_clock::now() < until ? relax() : std::this_thread::yield();
        }
        const std::lock_guard lock(mutex);  // the last worker has let go of the mutex that it left the loop under
    }
};

ThreadPool &ThreadPool::instance() {
    static ThreadPool pool;
    return pool;
}

ThreadPool::ThreadPool()
    : impl_(new Impl) {
}

ThreadPool::~ThreadPool() {
    impl_->stop = true;
    impl_->posted++;
    impl_->posted.notify_all();
    for (std::thread &worker : impl_->workers) {
        worker.join();
    }
    delete impl_;
}

int ThreadPool::current_slot() {
    return slot_of_thread;
}

int ThreadPool::parallel_for(int threads, int count, Body body, void *context) {
    if (in_loop || threads <= 1 || count <= 1) {
        for (int index = 0; index < count; index++) {
            if (const int result = body(context, index); result != 0) {
                return result;
            }
        }
        return 0;
    }
    Loop loop{.threads = std::min(threads, count), .count = count, .body = body, .context = context};
    impl_->post(&loop);
    loop.work(0);
    impl_->retire(&loop);
    return loop.error;
}

}  // namespace moa
