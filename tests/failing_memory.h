#pragma once

#include "moa/status.h"

#include <atomic>
#include <cstdint>
#include <gtest/gtest.h>
#include <string>

// Memory that is counted, and that runs out when a test says so: for programs with failing_memory.cpp.
namespace moa::tests::memory {

inline std::atomic<int64_t> blocks{0}, bytes{0}, most{0};  // in use; the most bytes since watch()

enum class Fails : uint8_t { once,   // memory is short for one block
                             always  // and stays so
};

struct Plot {
    int64_t left = -1;  // allocations of this thread until the one that fails; -1: none does
    Fails fails = Fails::once;
    bool failed = false;
};
inline thread_local Plot plot;

// From now on the calling thread's allocation number `n` (from 1) fails, until succeed().
inline void fail_at(int64_t n, Fails fails) {
    plot = {n - 1, fails, false};
}
// Whether one has failed.
inline bool succeed() {
    plot.left = -1;
    return plot.failed;
}
inline void watch() {
    most = bytes.load();
}
// Bytes at the peak since watch(), beyond those that were in use then.
inline int64_t peak(int64_t before) {
    return most - before;
}

// When lost blocks are looked for: caches of the process may come and go from call to call.
enum class Blocks : uint8_t { each_time,
                              in_the_end };

// Calls with memory that fails at the first allocation, at the second, and so on until none fails: each call must say so, lose
// nothing, and let the next one succeed.
template<class Call>
void walk(const std::string &name, Call call, Blocks counted = Blocks::each_time) {
    ASSERT_TRUE(call().ok()) << name;
    const int64_t at_rest = blocks;
    for (const Fails fails : {Fails::once, Fails::always}) {
        int64_t n = 1;
        for (bool failed = true; failed; n++) {
            ASSERT_LT(n, 100000) << name;
            const int64_t before = blocks;
            {
                fail_at(n, fails);
                const Status status = call();
                failed = succeed();
                ASSERT_TRUE(status.ok() || (failed && status.code() == Code::out_of_memory && !status.message().empty()))
                    << name << ", allocation " << n << ": " << name_of(status.code()) << ": " << status.message();
            }
            ASSERT_TRUE(counted == Blocks::in_the_end || blocks == before) << name << ", allocation " << n << " fails: blocks are lost";
        }
        EXPECT_GT(n, 2) << name << " allocates nothing";
    }
    EXPECT_TRUE(call().ok()) << name;
    EXPECT_EQ(blocks, at_rest) << name << ": blocks are lost";
}

}  // namespace moa::tests::memory
