#include "tests/child.h"
#include "tests/layers/random_layers.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cfenv>
#include <cstring>
#include <limits>
#include <thread>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

// Layers in processes that fork and that set floating-point state. tests/unit has the same of the parts.
namespace moa::tests {

namespace {

using Bits = std::vector<uint32_t>;

// Makes, plans and runs a layer from nothing; its output's bits, or none and a failure.
struct Guest {
    virtual ~Guest() = default;
    virtual Bits run(int threads) const = 0;
};

Bits bits_of(const Result<Plan> &plan, const std::vector<float> &x, const std::vector<int64_t> &in, const std::vector<int64_t> &out) {
    if (!plan.ok()) {
        ADD_FAILURE() << plan.status().message();
        return {};
    }
    size_t count = 1;
    for (const int64_t extent : out) {
        count *= static_cast<size_t>(extent);
    }
    Bits bits(count);
    const NamedTensor tensors[] = {{"x", {const_cast<float *>(x.data()), DType::f32, std::span<const int64_t>(in)}}, {"out", {bits.data(), DType::f32, std::span<const int64_t>(out)}}};
    const Status status = plan->run(tensors);
    EXPECT_TRUE(status) << status.message();
    return bits;
}

// The first row of products that plans, but for tiles: these know no floating-point state, and no denormal numbers.
std::vector<std::string> vector_row(const Linear &linear, int64_t rows) {
    for (const Row &row : built_rows()) {
        const std::vector<std::string> forced{std::string(row.name)};
        if (row.op == "project" && (row.required & bit(CpuFeature::amx_tile)) == 0 && linear.plan(1, rows, {.rows = forced}).ok()) {
            return forced;
        }
    }
    return {};
}

// Products that are denormal numbers, and ones that are rounded.
struct LinearGuest : Guest {
    static constexpr int64_t kRows = 2048, kIn = 64, kOut = 48;
    explicit LinearGuest(float scale)
        : x(normal_values(kRows * kIn, 3, scale)) {
        weights.add("weight", {kOut, kIn}, scale);
    }
    Bits run(int threads) const override {
        const Result<Linear> linear = Linear::create({.dim_in = kIn, .dim_out = kOut}, weights.map);
        const std::vector<std::string> row = linear.ok() ? vector_row(*linear, kRows) : std::vector<std::string>();
        return linear.ok() ? bits_of(linear->plan(1, kRows, {.threads = threads, .rows = row}), x, {1, kRows, kIn}, {1, kRows, kOut}) : Bits();
    }
    Weights weights;
    std::vector<float> x;
};

struct MixtureGuest : Guest {
    static constexpr int64_t kBatch = 2, kLength = 301;
    MixtureGuest()
        : x(normal_values(kBatch * kLength * config.dim, 5)) {
        add_weights(weights, config);
    }
    Bits run(int threads) const override {
        const Result<MixtureOfAttention> layer = MixtureOfAttention::create(config, weights.map);
        MixtureOfAttention::Shapes shapes;
        shapes.batch = kBatch;
        shapes.length = kLength;
        return layer.ok() ? bits_of(layer->plan(shapes, {.threads = threads}), x, {kBatch, kLength, config.dim}, {kBatch, kLength, config.dim}) : Bits();
    }
    MixtureOfAttention::Config config = small_config();
    Weights weights;
    std::vector<float> x;
};

class Guests : public testing::Test {
protected:
    std::vector<std::unique_ptr<Guest>> guests() const {
        std::vector<std::unique_ptr<Guest>> all;
        all.push_back(std::make_unique<LinearGuest>(1.F));
        all.push_back(std::make_unique<LinearGuest>(1e-20F));
        all.push_back(std::make_unique<MixtureGuest>());
        return all;
    }
};

struct FloatState {
    const char *name;
    void (*set)();
};

constexpr FloatState kStates[] = {
    {"to nearest", [] {}},
#if defined(__x86_64__)
    {"flush to zero", [] { _mm_setcsr(_mm_getcsr() | 0x8040); }},
#endif
    {"upward", [] { std::fesetround(FE_UPWARD); }},
    {"downward", [] { std::fesetround(FE_DOWNWARD); }},
    {"toward zero", [] { std::fesetround(FE_TOWARDZERO); }},
};

// Workers are made under the first state that comes, so that each is tried first, in a process of its own.
TEST_F(Guests, BitsDoNotDependOnTheCallersFloatingPointState) {
    for (const auto &guest : guests()) {
        const Bits expected = guest->run(1);
        ASSERT_TRUE(std::any_of(expected.begin(), expected.end(), [](uint32_t bits) { return bits << 1U != 0; }));
        for (const FloatState &state : kStates) {
            std::fenv_t before;
            std::fegetenv(&before);
            state.set();
            const int rounding = std::fegetround();
            const bool same = guest->run(1) == expected && guest->run(3) == expected;
            EXPECT_EQ(std::fegetround(), rounding) << state.name;
            std::fesetenv(&before);
            EXPECT_TRUE(same) << state.name;
            if (kForkedThreads) {
                EXPECT_EQ(end_of_child([&] {
                              state.set();
                              return guest->run(3) == expected && guest->run(1) == expected ? 0 : 1;
                          }),
                          "exit 0")
                    << state.name;
            }
        }
    }
}

TEST_F(Guests, TrappedExceptionsDoNotEndTheProcess) {
    for (const auto &guest : guests()) {
        const Bits expected = guest->run(1);
        EXPECT_EQ(end_of_child([&] {
                      std::feclearexcept(FE_ALL_EXCEPT);
                      feenableexcept(FE_ALL_EXCEPT);
                      const bool same = guest->run(1) == expected && (!kForkedThreads || guest->run(3) == expected);
                      return same && fegetexcept() == FE_ALL_EXCEPT && std::fetestexcept(FE_ALL_EXCEPT) == 0 ? 0 : 1;
                  }),
                  "exit 0");
    }
}

TEST_F(Guests, ChildrenOfForkGiveTheSameBits) {
    if (!kForkedThreads) {
        GTEST_SKIP() << "ThreadSanitizer ends such children";
    }
    for (const auto &guest : guests()) {
        const Bits expected = guest->run(3);
        EXPECT_EQ(end_of_child([&] { return guest->run(3) == expected && guest->run(2) == expected ? 0 : 1; }), "exit 0");
    }
}

// The parent's other thread packs the weights of the layer that the child plans.
TEST_F(Guests, ChildrenPlanLayersThatTheParentIsAboutToPlan) {
    if (!kForkedThreads) {
        GTEST_SKIP() << "ThreadSanitizer ends such children";
    }
    constexpr int64_t kDim = 256, kRows = 8;
    Weights weights;
    weights.add("weight", {kDim, kDim});
    const std::vector<float> x = normal_values(kRows * kDim, 3);
    const auto run = [&](const Linear &linear) { return bits_of(linear.plan(1, kRows), x, {1, kRows, kDim}, {1, kRows, kDim}); };
    const Bits expected = run(*Linear::create({.dim_in = kDim, .dim_out = kDim}, weights.map));
    for (int round = 0; round < 40; round++) {
        const Result<Linear> linear = Linear::create({.dim_in = kDim, .dim_out = kDim}, weights.map);
        ASSERT_TRUE(linear.ok());
        Bits parents;
        std::thread planner([&] { parents = run(*linear); });
        EXPECT_EQ(end_of_child([&] { return run(*linear) == expected ? 0 : 1; }, 20), "exit 0");
        planner.join();
        ASSERT_EQ(parents, expected);
    }
}

// --- threads of steps ---------------------------------------------------------------------------------------------------

TEST(StepThreads, SmallStepsTakeFewAndLargeOnesAll) {
    Weights weights;
    weights.add("weight", {64, 64});
    const Result<Linear> linear = Linear::create({.dim_in = 64, .dim_out = 64}, weights.map);
    ASSERT_TRUE(linear.ok());
    int last = 0;
    for (const int64_t rows : {1, 16, 256, 4096, 65536}) {
        const Result<Plan> plan = linear->plan(1, rows, {.threads = 16});
        ASSERT_TRUE(plan.ok());
        const int threads = plan->steps().back().threads;
        EXPECT_GE(threads, last) << rows;
        last = threads;
        EXPECT_EQ(rows == 1 ? threads : 1, 1) << rows;
        EXPECT_LE(linear->plan(1, rows, {.threads = 3})->steps().back().threads, 3) << rows;
    }
    EXPECT_EQ(last, 16);
}

TEST(StepThreads, AreSaidForEveryStepAndBoundTheScratch) {
    const MixtureGuest guest;
    const Result<MixtureOfAttention> layer = MixtureOfAttention::create(guest.config, guest.weights.map);
    ASSERT_TRUE(layer.ok());
    MixtureOfAttention::Shapes shapes;
    shapes.batch = 1;
    shapes.length = 16;
    const Result<Plan> one = layer->plan(shapes, {.threads = 1}), many = layer->plan(shapes, {.threads = 64});
    ASSERT_TRUE(one.ok() && many.ok());
    for (const Plan::Step &step : many->steps()) {
        EXPECT_GE(step.threads, 1) << step.name;
        EXPECT_LT(step.threads, 64) << step.name << ": so little work is none for 64 threads";
    }
    EXPECT_LT(many->workspace_bytes(), 16 * one->workspace_bytes());
}

}  // namespace

}  // namespace moa::tests
