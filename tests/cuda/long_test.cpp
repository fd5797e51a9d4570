#include "tests/layers/random_layers.h"
#include "tests/test_device.h"

#include <cmath>
#include <gtest/gtest.h>

// A million positions on a GPU, against the same layer on the cpu (whose results other tests check). Skipped without a GPU.
namespace moa::tests {
namespace {

constexpr int64_t kPositions = int64_t{1} << 20;

class GpuLong : public testing::Test {
protected:
    void SetUp() override {
        const Result<DeviceDescription> gpu = describe_device(test_gpu());
        if (!gpu.ok()) {
            GTEST_SKIP() << gpu.status().message();
        }
    }
};

PlanOptions on(const Device &device) {
    PlanOptions options;
    options.device = device;
    return options;
}

void expect_near(const std::vector<float> &got, const std::vector<float> &want, float tolerance) {
    ASSERT_EQ(got.size(), want.size());
    int64_t wrong = 0;
    for (size_t i = 0; i < got.size(); i++) {
        wrong += std::abs(got[i] - want[i]) <= tolerance ? 0 : 1;  // NaN is wrong
    }
    EXPECT_EQ(wrong, 0);
}

void local_attention(int64_t dim_head, bool causal) {
    LocalAttention::Config config;
    config.window_size = 16;
    config.dim_head = dim_head;
    config.causal = causal;
    config.exact_windowsize = true;
    const Result<LocalAttention> layer = LocalAttention::create(config, {});
    ASSERT_TRUE(layer.ok()) << layer.status().message();
    LocalAttention::Shapes shapes;
    shapes.length = kPositions;
    const auto count = static_cast<size_t>(kPositions * dim_head);
    std::vector<float> q = normal_values(count, 1), k = normal_values(count, 2), v = normal_values(count, 3);
    std::vector<float> results[2] = {std::vector<float>(count, NAN), std::vector<float>(count, NAN)};
    const auto view = [&](std::vector<float> &values) { return TensorView(values.data(), DType::f32, {1, 1, kPositions, dim_head}); };
    for (const bool gpu : {false, true}) {
        const Result<Plan> plan = layer->plan(shapes, on(gpu ? test_gpu() : Device{}));
        ASSERT_TRUE(plan.ok()) << plan.status().message();
        const Status status = run(*plan, {{"q", view(q)}, {"k", view(k)}, {"v", view(v)}, {"out", view(results[gpu])}});
        ASSERT_TRUE(status.ok()) << status.message();
    }
    expect_near(results[1], results[0], 1e-4f);
}

TEST_F(GpuLong, LocalAttention) {
    local_attention(32, false);
}

TEST_F(GpuLong, LocalAttentionOfOddHeads) {
    local_attention(34, true);
}

// Similarities are small integers, so that both devices select of the same numbers, most of them equal.
TEST_F(GpuLong, RouterAndSelection) {
    constexpr int64_t kDim = 8, kSelected = 1 << 16;
    CoordinateDescentRouter::Config config;
    config.dim = kDim;
    config.straight_through = false;
    std::vector<float> x = normal_values(kPositions * kDim, 1, 3), token = normal_values(kDim, 2, 2);
    for (std::vector<float> *values : {&x, &token}) {
        for (float &value : *values) {
            value = std::nearbyint(value);
        }
    }
    const Result<CoordinateDescentRouter> layer = CoordinateDescentRouter::create(config, {{"routing_token", TensorView(token.data(), DType::f32, {1, kDim})}});
    ASSERT_TRUE(layer.ok()) << layer.status().message();
    CoordinateDescentRouter::Shapes shapes;
    shapes.length = kPositions;
    shapes.num_tokens = kSelected;
    std::vector<int64_t> indices[2] = {std::vector<int64_t>(kSelected, -1), std::vector<int64_t>(kSelected, -2)};
    std::vector<float> scores[2] = {std::vector<float>(kSelected, NAN), std::vector<float>(kSelected, NAN)};
    for (const bool gpu : {false, true}) {
        const Result<Plan> plan = layer->plan(shapes, on(gpu ? test_gpu() : Device{}));
        ASSERT_TRUE(plan.ok()) << plan.status().message();
        const Status status = run(*plan, {{"x", TensorView(x.data(), DType::f32, {1, kPositions, kDim})},
                                          {"indices", TensorView(indices[gpu].data(), DType::i64, {1, 1, kSelected})},
                                          {"scores", TensorView(scores[gpu].data(), DType::f32, {1, 1, kSelected})}});
        ASSERT_TRUE(status.ok()) << status.message();
    }
    EXPECT_TRUE(indices[0] == indices[1]);
    expect_near(scores[1], scores[0], 1e-3f);
}

}  // namespace
}  // namespace moa::tests
