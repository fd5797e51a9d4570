#include "runtime/thread_pool.h"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

namespace moa {

namespace {

template<class Body>
int for_each(int threads, int count, Body body) {
    return ThreadPool::instance().parallel_for(
        threads, count, [](void *context, int index) { return (*static_cast<Body *>(context))(index); }, &body);
}

TEST(ThreadPool, EveryIndexOnce) {
    for (const int threads : {1, 2, 3, 8}) {
        for (const int count : {0, 1, 2, 7, 1000}) {
            std::vector<std::atomic<int>> calls(static_cast<size_t>(count));
            EXPECT_EQ(for_each(threads, count, [&](int index) { return calls[static_cast<size_t>(index)]++, 0; }), 0);
            for (const auto &call : calls) {
                EXPECT_EQ(call, 1);
            }
        }
    }
}

TEST(ThreadPool, SlotsAreBelowTheNumberOfThreadsAndNeverShared) {
    constexpr int kThreads = 4;
    for (int repeat = 0; repeat < 50; repeat++) {
        std::array<std::atomic<int>, kThreads> inside{};
        std::atomic<int> clashes{0};
        for_each(kThreads, 64, [&](int) {
            const int slot = ThreadPool::current_slot();
            if (slot < 0 || slot >= kThreads || inside[static_cast<size_t>(slot)]++ != 0) {
                clashes++;
                return 0;
            }
            std::this_thread::yield();
            inside[static_cast<size_t>(slot)]--;
            return 0;
        });
        ASSERT_EQ(clashes, 0);
        EXPECT_EQ(ThreadPool::current_slot(), 0);
    }
}

TEST(ThreadPool, SeveralThreadsWorkAtOnce) {
    std::atomic<int> waiting{0};
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    for_each(3, 3, [&](int) {
        waiting++;
        while (waiting < 3 && std::chrono::steady_clock::now() < until) {
            std::this_thread::yield();
        }
        return 0;
    });
    EXPECT_EQ(waiting, 3);
    EXPECT_LT(std::chrono::steady_clock::now(), until);
}

TEST(ThreadPool, NeverMoreThreadsThanAskedFor) {
    std::atomic<int> inside{0}, most{0};
    for_each(8, 64, [&](int) { return 0; });  // there are workers now
    for_each(2, 500, [&](int) {
        const int now = ++inside;
        int seen = most;
        while (now > seen && !most.compare_exchange_weak(seen, now)) {
        }
        std::this_thread::yield();
        inside--;
        return 0;
    });
    EXPECT_LE(most, 2);
}

TEST(ThreadPool, NestedLoopsRunOnTheThreadThatCalls) {
    std::atomic<int> calls{0}, elsewhere{0};
    for_each(4, 16, [&](int) {
        const auto thread = std::this_thread::get_id();
        const int slot = ThreadPool::current_slot();
        return for_each(4, 10, [&](int) {
            calls++;
            elsewhere += thread != std::this_thread::get_id() || slot != ThreadPool::current_slot() ? 1 : 0;
            return 0;
        });
    });
    EXPECT_EQ(calls, 160);
    EXPECT_EQ(elsewhere, 0);
}

TEST(ThreadPool, ErrorOfTheLowestIndexComesBack) {
    for (int repeat = 0; repeat < 100; repeat++) {
        for (const int threads : {1, 4}) {
            EXPECT_EQ(for_each(threads, 100, [](int index) { return index % 10 == 7 ? index : 0; }), 7);
        }
    }
    EXPECT_EQ(for_each(4, 100, [](int) { return 0; }), 0);
}

TEST(ThreadPool, FailuresEndTheLoopEarly) {
    std::atomic<int> calls{0};
    EXPECT_EQ(for_each(2, 1'000'000, [&](int) { return calls++, -1; }), -1);
    EXPECT_LT(calls, 1000);
}

TEST(ThreadPool, ManyCallersAtOnce) {
    constexpr int kCallers = 6, kLoops = 300, kCount = 20;
    std::atomic<int64_t> sum{0};
    std::vector<std::thread> callers;
    callers.reserve(kCallers);
    for (int caller = 0; caller < kCallers; caller++) {
        callers.emplace_back([&, caller] {
            for (int loop = 0; loop < kLoops; loop++) {
                int64_t own[kCount] = {};
                for_each(1 + caller % 4, kCount, [&](int index) { return own[index] += index, 0; });
                for (const int64_t value : own) {
                    sum += value;
                }
            }
        });
    }
    for (std::thread &caller : callers) {
        caller.join();
    }
    EXPECT_EQ(sum, int64_t{kCallers} * kLoops * (kCount * (kCount - 1) / 2));
}

TEST(ThreadPool, SleepingWorkersWakeUp) {
    for (int repeat = 0; repeat < 5; repeat++) {
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
        std::atomic<int> calls{0};
        for_each(3, 30, [&](int) { return calls++, 0; });
        EXPECT_EQ(calls, 30);
    }
}

}  // namespace

}  // namespace moa
