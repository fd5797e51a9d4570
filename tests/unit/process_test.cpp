#include "runtime/process.h"

#include "tests/child.h"

#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>
#include <thread>
#include <vector>

namespace moa {

namespace {

TEST(Once, IsDoneOnceByMany) {
    Once once;
    std::atomic<int> calls{0};
    int value = 0;
    std::vector<std::thread> threads;
    for (int thread = 0; thread < 8; thread++) {
        threads.emplace_back([&] {
            once.call([&] {
                calls++;
                value = 7;
                return true;
            });
            EXPECT_EQ(value, 7);
        });
    }
    for (std::thread &thread : threads) {
        thread.join();
    }
    EXPECT_EQ(calls, 1);
}

TEST(Once, WhatFailsIsTriedAgain) {
    Once once;
    int calls = 0;
    once.call([&] { return calls++, false; });
    EXPECT_THROW(once.call([&]() -> bool {
        calls++;
        throw std::runtime_error("no memory");
    }),
                 std::runtime_error);
    once.call([&] { return calls++, true; });
    once.call([&] { return calls++, true; });
    EXPECT_EQ(calls, 3);
}

// A thread of the parent is at it while the process forks: the child cannot wait for it.
TEST(Once, AChildOfForkBeginsAgain) {
    Once once;
    std::atomic<bool> begun{false}, go_on{false};
    std::thread slow([&] {
        once.call([&] {
            begun = true;
            begun.notify_all();
            go_on.wait(false);
            return true;
        });
    });
    begun.wait(false);
    const uint32_t here = fork_generation();
    EXPECT_EQ(tests::end_of_child([&] {
                  int calls = 0;
                  once.call([&] { return calls++, true; });
                  once.call([&] { return calls++, true; });
                  return calls == 1 && fork_generation() == here + 1 ? 0 : 1;
              }),
              "exit 0");
    EXPECT_EQ(fork_generation(), here);
    go_on = true;
    go_on.notify_all();
    slow.join();
}

}  // namespace

}  // namespace moa
