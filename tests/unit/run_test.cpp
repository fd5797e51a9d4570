#include "runtime/run.h"

#include "runtime/halide_runtime.h"
#include "runtime/thread_pool.h"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstring>
#include <new>
#include <span>
#include <thread>
#include <vector>

// Kernels of the test's own, which call Halide's runtime as compiled rows do.
namespace moa {

namespace {

Row row_of(int (*function)(void **), std::string_view schedule = "cpu") {
    Row row;
    row.name = "test__row";
    row.op = "test";
    row.schedule = schedule;
    row.dtype = "f32";
    row.function = function;
    return row;
}

void *context_of(void **arguments) {
    return *static_cast<void **>(arguments[0]);
}

// 64-byte aligned scratch, so that a test can say exactly how much of it an arena gets.
class Scratch {
public:
    explicit Scratch(size_t bytes)
        : bytes_(bytes), memory_(static_cast<std::byte *>(::operator new (bytes + 1, std::align_val_t{moa::Run::kBlockAlignment}))) {
    }
    ~Scratch() {
        ::operator delete (memory_, std::align_val_t{moa::Run::kBlockAlignment});
    }
    Scratch(const Scratch &) = delete;
    Scratch &operator=(const Scratch &) = delete;
    std::span<std::byte> span() const {
        return {memory_, bytes_};
    }
    bool holds(const void *pointer) const {
        return pointer >= memory_ && pointer < memory_ + bytes_;
    }

private:
    size_t bytes_;
    std::byte *memory_;
};

TEST(RunLaunch, PassesViewsAndScalarsInOrder) {
    static int calls;
    calls = 0;
    const auto kernel = [](void **a) {
        calls++;
        const auto *buffer = static_cast<halide_buffer_t *>(a[1]);
        EXPECT_EQ(buffer->dimensions, 2);
        EXPECT_EQ(buffer->dim[0].extent, 3);
        EXPECT_EQ(buffer->dim[1].extent, 2);
        EXPECT_EQ(buffer->dim[1].stride, 5);
        EXPECT_EQ(buffer->type.code, halide_type_float);
        EXPECT_EQ(*static_cast<int32_t *>(a[2]), 7);
        EXPECT_EQ(*static_cast<float *>(a[3]), 2.5F);
        EXPECT_EQ(*reinterpret_cast<float *>(buffer->host), 1.F);
        return 0;
    };
    std::vector<float> memory(10, 1);
    moa::Run run(1, {});
    const Status status = run.launch(row_of(kernel), {View(memory.data(), DType::f32, {{3, 1}, {2, 5}}), int32_t{7}, 2.5F});
    EXPECT_TRUE(status) << status.message();
    EXPECT_EQ(calls, 1);
}

TEST(RunLaunch, RefusesWhatKernelsCannotIndex) {
    const auto kernel = [](void **) {
        ADD_FAILURE() << "launched";
        return 0;
    };
    float memory = 0;
    moa::Run run(1, {});
    const View cases[] = {
        View(&memory, DType::f32, {{int64_t{1} << 31, 1}}),
        View(&memory, DType::f32, {{2, 1}, {2, int64_t{1} << 31}}),
        View(&memory, DType::f32, {{1 << 16, 1}, {1 << 16, 1 << 16}}),
        View(&memory, DType::f32, {{-1, 1}}),
    };
    for (const View &view : cases) {
        const Status status = run.launch(row_of(kernel), {view});
        EXPECT_EQ(status.code(), Code::unsupported);
        EXPECT_NE(status.message().find("2^31"), std::string::npos) << status.message();
    }
    // An axis of one element leads nowhere, whatever its stride.
    const auto taken = [](void **) { return 0; };
    EXPECT_TRUE(run.launch(row_of(taken), {View(&memory, DType::f32, {{1, 1}, {1, int64_t{1} << 40}})}));
}

TEST(RunLaunch, KernelErrorsComeBackWithTheFirstMessage) {
    const auto kernel = [](void **a) {
        moa_halide_error(context_of(a), "the cause");
        moa_halide_error(context_of(a), "what followed");
        return -3;
    };
    moa::Run run(1, {});
    const Status status = run.launch(row_of(kernel), {});
    EXPECT_EQ(status.code(), Code::internal);
    EXPECT_NE(status.message().find("the cause"), std::string::npos) << status.message();
    EXPECT_EQ(status.message().find("what followed"), std::string::npos) << status.message();
    EXPECT_NE(status.message().find("test__row"), std::string::npos) << status.message();
    // The next launch starts clean.
    EXPECT_TRUE(run.launch(row_of([](void **) { return 0; }), {}));
}

TEST(RunLaunch, AnErrorThatTheKernelDidNotReturnCounts) {
    const auto kernel = [](void **a) {
        moa_halide_error(context_of(a), "swallowed");
        return 0;
    };
    moa::Run run(1, {});
    EXPECT_NE(run.launch(row_of(kernel), {}).message().find("swallowed"), std::string::npos);
}

TEST(RunScratch, BlocksAreAlignedDisjointAndReused) {
    static const Scratch *scratch;
    const Scratch memory(4 * moa::Run::block_bytes(1000));
    scratch = &memory;
    const auto kernel = [](void **a) {
        void *context = context_of(a);
        for (int round = 0; round < 100; round++) {  // more than fits, were it not given back
            std::array<void *, 3> blocks{};
            for (void *&block : blocks) {
                block = moa_halide_malloc(context, 1000);
                if (block == nullptr || !scratch->holds(block) || reinterpret_cast<uintptr_t>(block) % moa::Run::kBlockAlignment != 0) {
                    return -1;
                }
                std::memset(block, round, 1000);
            }
            EXPECT_GE(static_cast<char *>(blocks[1]) - static_cast<char *>(blocks[0]), 1000);
            moa_halide_free(context, blocks[0]);  // not the last: goes with the ones above it
            moa_halide_free(context, blocks[2]);
            moa_halide_free(context, blocks[1]);
            moa_halide_free(context, nullptr);
        }
        return 0;
    };
    moa::Run run(1, memory.span());
    const Status status = run.launch(row_of(kernel), {});
    EXPECT_TRUE(status) << status.message();
}

TEST(RunScratch, TooLittleIsAnErrorWithSizes) {
    const auto kernel = [](void **a) { return moa_halide_malloc(context_of(a), 100000) == nullptr ? halide_error_code_out_of_memory : 0; };
    const Scratch memory(4096);
    moa::Run run(1, memory.span());
    const Status status = run.launch(row_of(kernel), {});
    EXPECT_EQ(status.code(), Code::out_of_memory);
    EXPECT_NE(status.message().find("100000"), std::string::npos) << status.message();
    // Sizes that overflow when rounded up.
    const auto huge = [](void **a) { return moa_halide_malloc(context_of(a), SIZE_MAX - 10) == nullptr ? halide_error_code_out_of_memory : 0; };
    EXPECT_EQ(run.launch(row_of(huge), {}).code(), Code::out_of_memory);
    EXPECT_TRUE(run.launch(row_of([](void **) { return 0; }), {}));
}

TEST(RunScratch, MemoryOfTheKernelsOwnIsLeftAlone) {
    const auto kernel = [](void **a) {
        std::array<char, 1024> own{};
        moa_halide_free(context_of(a), own.data() + 512);
        return static_cast<int>(own[300]);
    };
    const Scratch memory(4096);
    moa::Run run(1, memory.span());
    EXPECT_TRUE(run.launch(row_of(kernel), {}));
}

TEST(RunScratch, ReferenceRowsUseTheHeap) {
    const auto kernel = [](void **a) {
        void *block = moa_halide_malloc(context_of(a), 1 << 20);
        if (block == nullptr) {
            return -1;
        }
        std::memset(block, 1, 1 << 20);
        moa_halide_free(context_of(a), block);
        return 0;
    };
    moa::Run run(1, {});
    EXPECT_TRUE(run.launch(row_of(kernel, "reference"), {}));
    EXPECT_FALSE(run.launch(row_of(kernel), {}).ok());
}

TEST(RunThreads, LoopsVisitEveryIndexAndThreadsHaveArenasOfTheirOwn) {
    using Visits = std::array<std::atomic<int>, 100>;
    static Visits visits;
    for (auto &count : visits) {
        count = 0;
    }
    const auto kernel = [](void **a) {
        const auto body = [](void *context, int index, uint8_t *closure) {
            auto *block = static_cast<int *>(moa_halide_malloc(context, 4000));
            if (block == nullptr) {
                return -1;
            }
            block[0] = index;
            block[999] = index;
            (*reinterpret_cast<Visits *>(closure))[index - 5]++;
            const bool mine = block[0] == index && block[999] == index;
            moa_halide_free(context, block);
            return mine ? 0 : -2;
        };
        return moa_halide_do_par_for(context_of(a), body, 5, 100, reinterpret_cast<uint8_t *>(&visits));
    };
    for (const int threads : {1, 2, 5}) {
        const Scratch memory(static_cast<size_t>(threads) * 2 * moa::Run::block_bytes(4000));
        moa::Run run(threads, memory.span());
        const Status status = run.launch(row_of(kernel), {});
        EXPECT_TRUE(status) << status.message();
    }
    for (const auto &count : visits) {
        EXPECT_EQ(count, 3);
    }
}

// A step that pays for fewer threads than the run has: its loops take no more, and share the scratch among them.
TEST(RunThreads, AStepMayTakeFewer) {
    static std::atomic<int> highest;
    const auto kernel = [](void **a) {
        const auto body = [](void *context, int, uint8_t *) {
            void *block = moa_halide_malloc(context, 3000);
            moa_halide_free(context, block);
            int slot = ThreadPool::current_slot(), seen = highest;
            while (slot > seen && !highest.compare_exchange_weak(seen, slot)) {
            }
            std::this_thread::yield();
            return block == nullptr ? -1 : 0;
        };
        return moa_halide_do_par_for(context_of(a), body, 0, 200, nullptr);
    };
    const Scratch memory(2 * moa::Run::block_bytes(3000));
    moa::Run run(4, memory.span());
    EXPECT_EQ(run.launch(row_of(kernel), {}).code(), Code::internal) << "a quarter of the scratch is too little";
    for (const int threads : {2, 1}) {
        highest = 0;
        run.set_threads(threads);
        const Status status = run.launch(row_of(kernel), {});
        EXPECT_TRUE(status) << status.message();
        EXPECT_LT(highest, threads);
    }
}

TEST(RunThreads, AFailingTaskFailsTheLaunch) {
    const auto kernel = [](void **a) {
        const auto body = [](void *context, int index, uint8_t *) {
            if (index == 17) {
                moa_halide_error(context, "task 17");
                return -9;
            }
            return 0;
        };
        return moa_halide_do_par_for(context_of(a), body, 0, 64, nullptr);
    };
    moa::Run run(4, {});
    const Status status = run.launch(row_of(kernel), {});
    EXPECT_NE(status.message().find("task 17"), std::string::npos) << status.message();
    EXPECT_NE(status.message().find("-9"), std::string::npos) << status.message();
}

}  // namespace

}  // namespace moa
