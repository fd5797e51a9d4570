#include "tests/layers/random_layers.h"
#include "tests/test_device.h"

#include <cmath>
#include <cstdlib>
#include <gtest/gtest.h>
#include <limits>
#include <optional>
#include <utility>

// A NaN or an infinity of a token reaches what attends to it, and nothing else.
namespace moa::tests {
namespace {

constexpr float kNotFinite[] = {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity()};

std::vector<float> run_layer(const Plan &plan, std::vector<float> x, int64_t batch, int64_t dim) {
    std::vector<float> out(x.size(), -7);
    const int64_t length = static_cast<int64_t>(x.size()) / (batch * dim);
    const Status status = run(plan, {{"x", TensorView(x.data(), DType::f32, {batch, length, dim})}, {"out", TensorView(out.data(), DType::f32, {batch, length, dim})}});
    EXPECT_TRUE(status.ok()) << status.message();
    return out;
}

// Rows [first, last) of `got` hold no number, all others what `clean` holds.
void expect_only(const std::vector<float> &got, const std::vector<float> &clean, int64_t dim, int64_t first, int64_t last, const std::string &of) {
    for (int64_t row = 0; row < static_cast<int64_t>(got.size()) / dim; row++) {
        for (int64_t c = 0; c < dim; c++) {
            const float value = got[row * dim + c];
            if (row >= first && row < last) {
                ASSERT_FALSE(std::isfinite(value)) << of << ", row " << row << ", channel " << c;
            } else {
                ASSERT_EQ(value, clean[row * dim + c]) << of << ", row " << row << ", channel " << c;
            }
        }
    }
}

TEST(NotFinite, StaysOutOfThePastOfACausalLocalAttention) {
    constexpr int64_t kDim = 24, kLength = 45, kWindow = 8, kAt = 19;
    for (const bool exact : {true, false}) {
        LocalMHA::Config config;
        config.dim = kDim;
        config.dim_head = 8;
        config.heads = 2;
        config.window_size = kWindow;
        config.causal = true;
        config.prenorm = true;
        config.exact_windowsize = exact;
        Weights weights;
        weights.add("norm.weight", {kDim});
        weights.add("norm.bias", {kDim});
        weights.add("to_qkv.weight", {3 * 16, kDim}, 0.2f);
        weights.add("to_out.weight", {kDim, 16}, 0.2f);
        weights.add("attn_fn.rel_pos.inv_freq", {4});
        const Result<LocalMHA> layer = LocalMHA::create(config, weights.map);
        ASSERT_TRUE(layer.ok()) << layer.status().message();
        LocalMHA::Shapes shapes;
        shapes.length = kLength;
        PlanOptions options;
        options.device = test_device();
        const Result<Plan> plan = layer->plan(shapes, options);
        ASSERT_TRUE(plan.ok()) << plan.status().message();
        std::vector<float> x = normal_values(kLength * kDim, 1);
        const std::vector<float> clean = run_layer(*plan, x, 1, kDim);
        for (const float bad : kNotFinite) {
            x[kAt * kDim + 3] = bad;
            // Exact windows look a window back, others to the begin of the window before.
            const int64_t end = exact ? kAt + kWindow + 1 : (kAt / kWindow + 2) * kWindow;
            expect_only(run_layer(*plan, x, 1, kDim), clean, kDim, kAt, end, std::to_string(bad) + (exact ? ", exact" : ""));
        }
    }
}

class NotFiniteMixture : public testing::Test {
protected:
    static constexpr int64_t kBatch = 2, kLength = 41, kAt = 17;

    void plan_of(bool local, bool routed) {
        config.local_attn = local;
        Weights weights;
        add_weights(weights, config);
        const Result<MixtureOfAttention> layer = MixtureOfAttention::create(config, weights.map);
        ASSERT_TRUE(layer.ok()) << layer.status().message();
        MixtureOfAttention::Shapes shapes;
        shapes.batch = kBatch;
        shapes.length = kLength;
        if (!routed) {
            shapes.num_routed_queries = shapes.num_routed_key_values = kLength;
        }
        PlanOptions options;
        options.device = test_device();
        Result<Plan> made = layer->plan(shapes, options);
        ASSERT_TRUE(made.ok()) << made.status().message();
        plan = *std::move(made);
    }

    MixtureOfAttention::Config config = small_config();
    std::optional<Plan> plan;
    std::vector<float> x = normal_values(kBatch * kLength * 24, 1);
};

// All tokens attend to all: the whole batch row has no number, the other one what it had.
TEST_F(NotFiniteMixture, ReachesItsBatchRowWhereAllTokensAreTaken) {
    for (const bool local : {true, false}) {
        plan_of(local, false);
        const std::vector<float> clean = run_layer(*plan, x, kBatch, config.dim);
        for (const float bad : kNotFinite) {
            std::vector<float> spoiled = x;
            spoiled[kAt * config.dim + 5] = bad;
            expect_only(run_layer(*plan, spoiled, kBatch, config.dim), clean, config.dim, 0, kLength, std::to_string(bad) + (local ? ", local" : ""));
        }
    }
}

// A token whose similarity is NaN ranks last, so that it is not routed: it reaches the windows around it, and without a local
// branch nothing.
TEST_F(NotFiniteMixture, IsNotRoutedWhileOthersAreValid) {
    for (const bool local : {true, false}) {
        plan_of(local, true);
        std::vector<float> spoiled = x;
        spoiled[kAt * config.dim + 5] = kNotFinite[0];
        const std::vector<float> out = run_layer(*plan, spoiled, kBatch, config.dim);
        const int64_t reach = local ? config.local_attn_window_size : -1;
        for (int64_t row = 0; row < kBatch * kLength; row++) {
            for (int64_t c = 0; c < config.dim; c++) {
                EXPECT_EQ(std::isfinite(out[row * config.dim + c]), std::abs(row - kAt) > reach) << "row " << row << ", channel " << c << (local ? ", local" : "");
            }
        }
    }
}

}  // namespace
}  // namespace moa::tests
