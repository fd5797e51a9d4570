#include "runtime/thread_pool.h"

#include "runtime/cores.h"
#include "runtime/worker_thread.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <limits>
#include <mutex>
#include <thread>
#include <unistd.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace moa {

namespace {

using Clock = std::chrono::steady_clock;

// Kernels of 20 us to a few ms follow each other within a run: a worker that slept between them would lose tens of
// microseconds to each wake-up, so it looks for work for a while first.
constexpr auto kSpin = std::chrono::microseconds(100);
constexpr auto kNap = std::chrono::microseconds(50);
constexpr auto kRetry = std::chrono::milliseconds(100);  // after the system refused a thread
constexpr int kMaxWorkers = 1024;

thread_local int slot_of_thread = 0;
thread_local bool in_loop = false;

void relax() {
#if defined(__x86_64__)
    _mm_pause();
#endif
}

struct Loop {
    int count = 0;
    ThreadPool::Body body = nullptr;
    void *context = nullptr;
    std::atomic<int64_t> next{0};
    std::atomic<int> joined{1};  // threads; the caller is slot 0
    std::atomic<int> left{0};    // workers that no longer touch it
    std::mutex error_mutex{};
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

    // The last ones may have been put aside by the system: the caller gives way to them, and sleeps if that is not enough, as
    // for a caller of real-time priority it is not.
    void wait_for(int workers) const {
        constexpr int kYields = 200;
        const auto until = Clock::now() + kSpin;
        int yields = 0;
        while (left.load(std::memory_order_acquire) != workers) {
            if (Clock::now() < until) {
                relax();
            } else if (yields++ < kYields) {
                std::this_thread::yield();
            } else {
                std::this_thread::sleep_for(kNap);
            }
        }
    }
};

// Every worker has a place for one loop, in cache lines of its own: a caller offers its loop to as many idle workers as it wants,
// and touches no other. Low places come first, so that loops of few threads find workers that still look for work.
struct alignas(128) Worker {
    // Null: idle. The worker takes the loop by changing it to &kTaken, its caller may take it back until then.
    std::atomic<Loop *> offer{nullptr};
    std::atomic<uint32_t> calls{0};  // it sleeps on this
    std::atomic<bool> asleep{false};
    std::atomic<pid_t> thread{0};
};

constinit Loop kTaken;
constinit std::array<Worker, kMaxWorkers> workers;
constinit std::atomic<int> started{0};            // workers, from the first on
constinit std::atomic<bool> starting{false};      // a thread is making workers
constinit std::atomic<int64_t> refused_until{0};  // by the clock: the system had no thread left
constinit std::atomic<uint64_t> placed_on{0};     // a hash of the cores

void sleep(Worker &worker) {
    const uint32_t seen = worker.calls.load();
    worker.asleep.store(true);
    if (worker.offer.load() == nullptr) {
        worker.calls.wait(seen);
    }
    worker.asleep.store(false);
}

void *serve(void *place) {
    Worker &worker = *static_cast<Worker *>(place);
    slot_of_thread = 0;  // the system may have to make thread-local memory: before a loop counts on this worker
    worker.thread = settle_worker();
    for (;;) {
        Loop *loop = worker.offer.load();
        if (loop != nullptr && worker.offer.compare_exchange_strong(loop, &kTaken)) {
            loop->work(loop->joined.fetch_add(1, std::memory_order_relaxed));
            worker.offer.store(nullptr);  // first, so that a caller whose loop ended finds its workers idle
            loop->left.fetch_add(1, std::memory_order_release);
        }
        const auto until = Clock::now() + kSpin;
        while (worker.offer.load(std::memory_order_relaxed) == nullptr && Clock::now() < until) {
            relax();
        }
        if (worker.offer.load() == nullptr) {
            sleep(worker);
        }
    }
}

bool offer(Worker &worker, Loop &loop) {
    Loop *idle = nullptr;
    if (worker.offer.load(std::memory_order_relaxed) != nullptr || !worker.offer.compare_exchange_strong(idle, &loop)) {
        return false;
    }
    if (worker.asleep.load()) {
        worker.calls.fetch_add(1);
        worker.calls.notify_one();
    }
    return true;
}

int64_t now_ns() {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now().time_since_epoch()).count();
}

uint64_t hash_of(const CoreSet &cores) {
    uint64_t hash = 1;
    for (const uint64_t word : cores.words) {
        hash = (hash ^ word) * 0x9E3779B97F4A7C15U;
        hash ^= hash >> 29U;
    }
    return hash;
}

// What became of a loop's offers.
struct Offers {
    int count = 0;
    int end = 0;  // beyond the last worker that has one
};

// Makes up to `wanted` workers whose first loop is this. While another thread makes some, the loop does without.
void start_workers(Loop &loop, int wanted, Offers &offers) {
    if (started.load() >= kMaxWorkers || now_ns() < refused_until.load(std::memory_order_relaxed) || starting.exchange(true)) {
        return;
    }
    const CoreSet cores = process_cores();
    placed_on = hash_of(cores);
    WorkerMaker maker(cores, ThreadPool::kStackBytes);
    for (int index = started; wanted > 0 && index < kMaxWorkers; index++, wanted--) {
        Worker &worker = workers[static_cast<size_t>(index)];
        worker.offer = &loop;
        if (!maker.make(serve, &worker)) {
            worker.offer = nullptr;
            refused_until = now_ns() + std::chrono::nanoseconds(kRetry).count();
            break;
        }
        offers = {offers.count + 1, index + 1};
        started = index + 1;
    }
    starting = false;
}

// Offers the loop to `wanted` idle workers, of which there may be fewer.
Offers find_workers(Loop &loop, int wanted) {
    Offers offers;
    const int present = started.load(std::memory_order_acquire);
    for (int index = 0; index < present && offers.count < wanted; index++) {
        if (offer(workers[static_cast<size_t>(index)], loop)) {
            offers = {offers.count + 1, index + 1};
        }
    }
    if (offers.count < wanted) {
        start_workers(loop, wanted - offers.count, offers);
    }
    return offers;
}

// Takes the loop back from workers that have not begun, and waits for the others to end.
void retire(Loop &loop, const Offers &offers) {
    int begun = offers.count;
    for (int index = 0; index < offers.end && begun > loop.joined.load(std::memory_order_relaxed) - 1; index++) {
        Loop *mine = &loop;
        begun -= workers[static_cast<size_t>(index)].offer.compare_exchange_strong(mine, nullptr) ? 1 : 0;
    }
    loop.wait_for(begun);
}

}  // namespace

constinit ThreadPool ThreadPool::pool;

ThreadPool &ThreadPool::instance() {
    return pool;
}

int ThreadPool::current_slot() {
    return slot_of_thread;
}

bool ThreadPool::is_worker(pid_t thread) const {
    const auto made = workers.begin() + started.load();
    return std::any_of(workers.begin(), made, [&](const Worker &worker) { return worker.thread.load(std::memory_order_relaxed) == thread; });
}

void ThreadPool::follow_process() {
    const int present = started.load();
    if (present == 0) {
        return;
    }
    const CoreSet cores = process_cores();
    const uint64_t hash = hash_of(cores);
    if (placed_on.exchange(hash) == hash) {
        return;
    }
    for (int index = 0; index < present; index++) {
        place_worker(workers[static_cast<size_t>(index)].thread, cores);
    }
}

void ThreadPool::forget_workers() {
    for (int index = 0; index < started; index++) {
        Worker &worker = workers[static_cast<size_t>(index)];
        worker.offer = nullptr;
        worker.asleep = false;
        worker.thread = 0;
    }
    started = 0;
    starting = false;
    refused_until = 0;
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
    Loop loop{.count = count, .body = body, .context = context};
    const Offers offers = find_workers(loop, std::min(threads, count) - 1);
    loop.work(0);
    retire(loop, offers);
    return loop.error;
}

}  // namespace moa
