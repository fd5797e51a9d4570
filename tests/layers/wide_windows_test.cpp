#include "moa/local_attention.h"

#include "tests/layers/random_layers.h"
#include "tests/test_device.h"
#include "workloads/layer_reference.h"

#include <algorithm>
#include <cmath>
#include <gtest/gtest.h>
#include <malloc.h>
#include <string>
#include <vector>

// Windows far larger than the input: the same results as by the definition, for the memory and the work of the input.
namespace moa::tests {
namespace {

constexpr int64_t kWidth = 32, kBatch = 2, kHeads = 1;

struct Options {
    LocalAttention::Config config;
    int64_t length = 0;
    int masked = 0;  // every so manieth position; 0: no mask, 1: all
};

std::string text(const Options &o) {
    const auto &c = o.config;
    return "window " + std::to_string(c.window_size) + ", back " + std::to_string(c.look_backward) + ", ahead " + std::to_string(c.look_forward.value_or(c.causal ? 0 : 1)) +
           (c.causal ? ", causal" : "") + (c.exact_windowsize ? ", exact" : "") + (c.use_xpos ? ", xpos" : "") + ", length " + std::to_string(o.length) + ", masked " + std::to_string(o.masked);
}

std::vector<float> angles() {
    std::vector<float> values;
    for (int64_t j = 0; j < kWidth / 2; j++) {
        values.push_back(static_cast<float>(std::pow(10000.0, -2.0 * static_cast<double>(j) / kWidth)));
    }
    return values;
}

void compare(const Options &o) {
    const std::vector<float> inv_freq = angles();
    const Result<LocalAttention> layer = LocalAttention::create(o.config, {{"rel_pos.inv_freq", {inv_freq.data(), DType::f32, {kWidth / 2}}}});
    ASSERT_TRUE(layer.ok()) << layer.status().message();
    LocalAttention::Shapes shapes{.batch = kBatch, .heads = kHeads, .length = o.length};
    shapes.mask = o.masked != 0;
    PlanOptions options;
    options.device = test_device();
    const Result<Plan> plan = layer->plan(shapes, options);
    ASSERT_TRUE(plan.ok()) << plan.status().message();
    const auto count = static_cast<size_t>(kBatch * kHeads * o.length * kWidth);
    const std::vector<float> q = normal_values(count, 1), k = normal_values(count, 2), v = normal_values(count, 3);
    std::vector<float> out(count);
    std::vector<uint8_t> mask(static_cast<size_t>(kBatch * o.length), 1);
    for (size_t n = 0; n < mask.size() && o.masked != 0; n++) {
        mask[n] = n % static_cast<size_t>(o.masked) == 0 ? 0 : 1;
    }
    const auto view = [&](const std::vector<float> &values) { return TensorView(values.data(), DType::f32, {kBatch, kHeads, o.length, kWidth}); };
    const TensorView mask_view(mask.data(), DType::boolean, {kBatch, o.length});
    const Status status = shapes.mask ? run(*plan, {{"q", view(q)}, {"k", view(k)}, {"v", view(v)}, {"mask", mask_view}, {"out", view(out)}})
                                      : run(*plan, {{"q", view(q)}, {"k", view(k)}, {"v", view(v)}, {"out", view(out)}});
    ASSERT_TRUE(status.ok()) << status.message();
    workloads::Rounding exact;
    const workloads::LocalHead head{.options = o.config, .scale = 1 / std::sqrt(static_cast<double>(kWidth)), .inv_freq = inv_freq};
    for (int64_t part = 0; part < kBatch * kHeads; part++) {
        const auto rows = [&](const std::vector<float> &values) {
            workloads::Rows own(o.length, kWidth);
            std::copy_n(values.begin() + part * o.length * kWidth, own.values.size(), own.values.begin());
            return own;
        };
        const auto first = mask.begin() + part / kHeads * o.length;
        const workloads::Rows want = attend_locally(exact, head, rows(q), rows(k), rows(v), shapes.mask ? std::vector<uint8_t>(first, first + o.length) : std::vector<uint8_t>());
        const workloads::Rows got = rows(out);
        for (size_t i = 0; i < want.values.size(); i++) {
            ASSERT_NEAR(got.values[i], want.values[i], 2e-5 * (1 + std::abs(want.values[i]))) << text(o) << ", part " << part << ", element " << i;
        }
    }
}

class WideWindows : public testing::Test {
protected:
    void SetUp() override {
        const auto rows = built_rows();
        const auto taken = [](const Row &row) { return row.op == "local_attention" && row.dtype == "f32" && row.device == test_device().type; };
        if (std::none_of(rows.begin(), rows.end(), taken)) {
            GTEST_SKIP() << "this build has no rows of local attention in f32 for " << name_of(test_device());
        }
    }
};

LocalAttention::Config config_of(int64_t window) {
    LocalAttention::Config config;
    config.dim_head = kWidth;
    config.window_size = window;
    config.rotary = config.autopad = true;
    return config;
}

TEST_F(WideWindows, GiveWhatTheDefinitionSays) {
    for (const int64_t window : {100, 200, 1 << 18}) {
        for (const int64_t length : {1, 8, 150}) {
            for (const int masked : {0, 1, 3}) {
                for (const bool exact : {false, true}) {
                    for (const int64_t back : {0, 1, 9}) {
                        for (const int64_t ahead : {-1, 0, 1}) {  // -1: causal
                            Options o{.config = config_of(window), .length = length, .masked = masked};
                            o.config.exact_windowsize = exact;
                            o.config.look_backward = back;
                            o.config.causal = ahead < 0;
                            o.config.look_forward = std::max<int64_t>(ahead, 0);
                            compare(o);
                            if (HasFatalFailure()) {
                                return;
                            }
                        }
                    }
                }
            }
        }
    }
}

TEST_F(WideWindows, KeepPowersAndScores) {
    for (const int64_t length : {8, 150}) {
        Options o{.config = config_of(1000), .length = length};
        o.config.use_xpos = true;
        compare(o);
        o.config.shared_qk = true;
        o.config.use_xpos = false;
        compare(o);
    }
}

TEST_F(WideWindows, TakeNoMoreMemoryThanTheInput) {
    const std::vector<float> inv_freq = angles();
    const Result<LocalAttention> layer = LocalAttention::create(config_of(1 << 18), {{"rel_pos.inv_freq", {inv_freq.data(), DType::f32, {kWidth / 2}}}});
    ASSERT_TRUE(layer.ok()) << layer.status().message();
    PlanOptions options;
    options.device = test_device();
    const auto in_use = [] {
        const struct mallinfo2 info = mallinfo2();
        return info.uordblks + info.hblkhd;
    };
    const size_t before = in_use();
    const Result<Plan> plan = layer->plan({.batch = 1, .heads = 1, .length = 8}, options);
    ASSERT_TRUE(plan.ok()) << plan.status().message();
    EXPECT_LT(in_use() - before, size_t{4} << 20);
    EXPECT_LT(plan->workspace_bytes(), size_t{64} << 20);
}

}  // namespace
}  // namespace moa::tests
