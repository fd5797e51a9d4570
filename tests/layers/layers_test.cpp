#include "tests/layers/random_layers.h"
#include "tests/test_device.h"

#include <atomic>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <gtest/gtest.h>
#include <limits>
#include <malloc.h>
#include <memory>
#include <new>
#include <thread>

namespace {

std::atomic<int64_t> allocations{0};

void *counted(size_t bytes, size_t alignment) {
    allocations++;
    return alignment <= alignof(std::max_align_t) ? std::malloc(bytes) : std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
}

}  // namespace

void *operator new(size_t bytes) {
    return counted(bytes, 1);
}
void *operator new(size_t bytes, const std::nothrow_t &) noexcept {
    return counted(bytes, 1);
}
void *operator new(size_t bytes, std::align_val_t alignment) {
    return counted(bytes, static_cast<size_t>(alignment));
}
void *operator new(size_t bytes, std::align_val_t alignment, const std::nothrow_t &) noexcept {
    return counted(bytes, static_cast<size_t>(alignment));
}
void operator delete(void *memory) noexcept {
    std::free(memory);
}
void operator delete(void *memory, size_t) noexcept {
    std::free(memory);
}
void operator delete(void *memory, std::align_val_t) noexcept {
    std::free(memory);
}
void operator delete(void *memory, size_t, std::align_val_t) noexcept {
    std::free(memory);
}

namespace moa::tests {
namespace {

constexpr int64_t kBatch = 2, kLength = 41;

class MixtureTest : public testing::Test {
protected:
    MixtureTest() {
        add_weights(weights, config);
        Result<MixtureOfAttention> made = MixtureOfAttention::create(config, weights.map);
        EXPECT_TRUE(made.ok()) << made.status().message();
        layer = std::make_unique<MixtureOfAttention>(*std::move(made));
        shapes.batch = kBatch;
        shapes.length = kLength;
        x = normal_values(kBatch * kLength * config.dim, 1);
        out.assign(x.size(), 0);
    }
    TensorView input() {
        return {x.data(), DType::f32, {kBatch, kLength, config.dim}};
    }
    TensorView output() {
        return {out.data(), DType::f32, {kBatch, kLength, config.dim}};
    }
    Plan plan(PlanOptions options = {}) {
        options.device = test_device();
        Result<Plan> made = layer->plan(shapes, options);
        EXPECT_TRUE(made.ok()) << made.status().message();
        return *std::move(made);
    }
    std::string refusal(std::initializer_list<NamedTensor> tensors) {
        const Status status = run(plan(), tensors);
        EXPECT_FALSE(status.ok());
        EXPECT_EQ(status.code(), Code::invalid_argument);
        return status.message();
    }

    MixtureOfAttention::Config config = small_config();
    MixtureOfAttention::Shapes shapes;
    Weights weights;
    std::unique_ptr<MixtureOfAttention> layer;
    std::vector<float> x, out;
};

bool contains(const std::string &text, const std::string &part) {
    return text.find(part) != std::string::npos;
}

TEST_F(MixtureTest, SaysWhatIsWrongWithArguments) {
    EXPECT_TRUE(contains(refusal({{"x", input()}}), "out is missing"));
    EXPECT_TRUE(contains(refusal({{"x", input()}, {"out", output()}, {"mask", input()}}), "no argument named mask"));
    EXPECT_TRUE(contains(refusal({{"x", input()}, {"x", input()}, {"out", output()}}), "x is given twice"));
    if (!on_gpu()) {  // copies of one tensor are two
        EXPECT_TRUE(contains(refusal({{"x", input()}, {"out", input()}}), "overlaps"));
    }
    const TensorView short_x(x.data(), DType::f32, {kBatch, kLength - 1, config.dim});
    EXPECT_TRUE(contains(refusal({{"x", short_x}, {"out", output()}}), "[2, 40, 24]"));
    const TensorView bf16_x(x.data(), DType::bf16, {kBatch, kLength, config.dim});
    EXPECT_TRUE(contains(refusal({{"x", bf16_x}, {"out", output()}}), "bf16"));
    TensorView strided = input();
    strided.strides[2] = 2;
    EXPECT_TRUE(contains(refusal({{"x", strided}, {"out", output()}}), "innermost stride is 2"));
    TensorView nowhere = input();
    nowhere.data = nullptr;
    EXPECT_TRUE(contains(refusal({{"x", nowhere}, {"out", output()}}), "null"));
    TensorView elsewhere = input();
    elsewhere.device = {DeviceType::cuda, 77};
    EXPECT_TRUE(contains(refusal({{"x", elsewhere}, {"out", output()}}), "cuda:77"));
}

TEST_F(MixtureTest, SaysWhatIsWrongWithShapesAndOptions) {
    const auto planned = [&](auto change) {
        MixtureOfAttention::Shapes changed = shapes;
        change(changed);
        return layer->plan(changed).status().message();
    };
    EXPECT_TRUE(contains(planned([](auto &s) { s.batch = -1; }), "negative size"));
    EXPECT_TRUE(contains(planned([](auto &s) { s.context_length = 10; }), "local branch"));
    EXPECT_TRUE(contains(planned([](auto &s) { s.num_routed_queries = 0; }), "at least 1"));
    EXPECT_TRUE(contains(planned([](auto &s) { s.length = 5, s.impose_queries = true; }), "imposed"));
    EXPECT_TRUE(contains(planned([](auto &s) { s.length = int64_t{1} << 30; }), "2^31"));
    PlanOptions unknown_row;
    unknown_row.rows = {"attention__nobody"};
    EXPECT_EQ(layer->plan(shapes, unknown_row).status().code(), Code::not_found);
    PlanOptions gpu;
    gpu.device = {DeviceType::cuda, 77};
    EXPECT_EQ(layer->plan(shapes, gpu).status().code(), cuda::device_count() == 0 ? Code::unsupported : Code::not_found);
}

TEST_F(MixtureTest, SaysWhatIsWrongWithWeights) {
    TensorMap missing = weights.map;
    missing.erase("attn.null_kv");
    EXPECT_TRUE(contains(MixtureOfAttention::create(config, missing).status().message(), "attn.null_kv [2, 3, 2, 1, 8] is missing"));
    TensorMap extra = weights.map;
    extra["attn.to_z.weight"] = extra["attn.null_kv"];
    EXPECT_TRUE(contains(MixtureOfAttention::create(config, extra).status().message(), "attn.to_z.weight"));
    TensorMap misshapen = weights.map;
    misshapen["query_router.routing_token"].shape[1] = 23;
    EXPECT_TRUE(contains(MixtureOfAttention::create(config, misshapen).status().message(), "[3, 23]"));
    MixtureOfAttention::Config broken = config;
    broken.dim = -4;
    EXPECT_TRUE(contains(MixtureOfAttention::create(broken, weights.map).status().message(), "-4"));
}

TEST_F(MixtureTest, RefusesSmallAndMisalignedWorkspaces) {
    if (on_gpu()) {
        GTEST_SKIP() << "of the cpu; tests/cuda has the like for GPUs";
    }
    const Plan p = plan();
    std::vector<std::byte> memory(p.workspace_bytes() + 128);
    const auto address = reinterpret_cast<uintptr_t>(memory.data());
    std::byte *aligned = memory.data() + (64 - address % 64) % 64;
    const std::initializer_list<NamedTensor> tensors{{"x", input()}, {"out", output()}};
    EXPECT_TRUE(contains(p.run(tensors, {aligned, p.workspace_bytes() - 1}).message(), "workspace"));
    EXPECT_TRUE(contains(p.run(tensors, {aligned + 4, p.workspace_bytes()}).message(), "aligned"));
    EXPECT_TRUE(p.run(tensors, {aligned, p.workspace_bytes()}).ok());
}

TEST_F(MixtureTest, SameBitsForAnyThreadCountAndWorkspaceContents) {
    if (on_gpu()) {
        GTEST_SKIP() << "of the cpu; tests/cuda has the like for GPUs";
    }
    std::vector<float> first;
    for (const int threads : {1, 2, 5, 1}) {
        PlanOptions options;
        options.threads = threads;
        const Plan p = plan(options);
        std::vector<std::byte> memory(p.workspace_bytes() + 64, std::byte{0xff});  // NaN wherever a kernel reads what nobody wrote
        std::byte *aligned = memory.data() + (64 - reinterpret_cast<uintptr_t>(memory.data()) % 64) % 64;
        const Status status = p.run({{"x", input()}, {"out", output()}}, {aligned, p.workspace_bytes()});
        ASSERT_TRUE(status.ok()) << status.message();
        if (first.empty()) {
            first = out;
            EXPECT_TRUE(std::all_of(out.begin(), out.end(), [](float v) { return std::isfinite(v); }));
        }
        EXPECT_EQ(std::memcmp(first.data(), out.data(), out.size() * sizeof(float)), 0) << threads << " threads";
    }
}

TEST_F(MixtureTest, ThreadsShareOnePlan) {
    PlanOptions options;
    options.threads = 2;
    const Plan p = plan(options);
    ASSERT_TRUE(run(p, {{"x", input()}, {"out", output()}}).ok());
    std::vector<std::thread> threads;
    threads.reserve(4);
    std::atomic<int> wrong{0};
    for (int t = 0; t < 4; t++) {
        threads.emplace_back([&] {
            std::vector<float> mine(out.size());
            for (int run = 0; run < 20; run++) {
                const Status status = tests::run(p, {{"x", input()}, {"out", TensorView(mine.data(), DType::f32, {kBatch, kLength, config.dim})}});
                wrong += !status.ok() || mine != out ? 1 : 0;
            }
        });
    }
    for (std::thread &thread : threads) {
        thread.join();
    }
    EXPECT_EQ(wrong, 0);
}

TEST_F(MixtureTest, RunsAllocateNothing) {
    if (on_gpu()) {
        GTEST_SKIP() << "of the cpu; tests/cuda has the like for GPUs";
    }
    const Plan p = plan();
    auto *memory = static_cast<std::byte *>(::operator new (p.workspace_bytes(), std::align_val_t{64}));
    const std::initializer_list<NamedTensor> tensors{{"x", input()}, {"out", output()}};
    ASSERT_TRUE(p.run(tensors, {memory, p.workspace_bytes()}).ok());  // worker threads start here
    const int64_t before = allocations;
    const size_t in_use = mallinfo2().uordblks;
    for (int run = 0; run < 5; run++) {
        ASSERT_TRUE(p.run(tensors, {memory, p.workspace_bytes()}).ok());
    }
    EXPECT_EQ(allocations, before);
    EXPECT_EQ(mallinfo2().uordblks, in_use);
    ::operator delete (memory, std::align_val_t{64});
}

TEST_F(MixtureTest, ImposedRoutesGiveTheSameOutputsAndAreChecked) {
    const int64_t e = config.num_experts;
    std::vector<int64_t> queries(kBatch * e * 7), keys(kBatch * e * 9);
    const TensorView query_view(queries.data(), DType::i64, {kBatch, e, 7}), key_view(keys.data(), DType::i64, {kBatch, e, 9});
    ASSERT_TRUE(run(plan(), {{"x", input()}, {"out", output()}, {"query_indices", query_view}, {"key_value_indices", key_view}}).ok());
    const std::vector<float> chosen = out;
    shapes.impose_queries = shapes.impose_key_values = true;
    const Plan imposed = plan();
    const auto again = [&] { return run(imposed, {{"x", input()}, {"out", output()}, {"imposed_queries", query_view}, {"imposed_key_values", key_view}}); };
    ASSERT_TRUE(again().ok());
    EXPECT_EQ(out, chosen);
    if (on_gpu()) {
        return;  // there they are clamped
    }
    queries[3] = kLength;
    EXPECT_TRUE(contains(again().message(), "imposed index 41"));
    queries[3] = queries[4];
    EXPECT_TRUE(contains(again().message(), "occurs twice"));
}

TEST_F(MixtureTest, NanOfAMaskedTokenStaysThere) {
    shapes.mask = true;
    std::vector<uint8_t> mask(kBatch * kLength, 1);
    mask[5] = mask[kLength + 40] = 0;
    const TensorView mask_view(mask.data(), DType::boolean, {kBatch, kLength});
    for (const bool routed : {true, false}) {
        shapes.num_routed_queries = shapes.num_routed_key_values = routed ? 40 : kLength;  // 40 of 41: masked ones are selected too
        ASSERT_TRUE(run(plan(), {{"x", input()}, {"mask", mask_view}, {"out", output()}}).ok());
        const std::vector<float> clean = out;
        std::vector<float> kept = x;
        for (const int64_t n : {int64_t{5}, kLength + 40}) {
            std::fill_n(x.begin() + n * config.dim, config.dim, std::numeric_limits<float>::quiet_NaN());
        }
        ASSERT_TRUE(run(plan(), {{"x", input()}, {"mask", mask_view}, {"out", output()}}).ok());
        EXPECT_EQ(out, clean) << (routed ? "routed" : "unrouted");
        x = kept;
    }
}

TEST_F(MixtureTest, AnyLengthRuns) {
    for (const int64_t length : {0, 1, 2, 3, 7, 8, 9, 10, 31, 32, 33, 64, 127}) {
        shapes.length = length;
        const std::vector<float> in = normal_values(kBatch * length * config.dim, 3);
        std::vector<float> result(in.size(), std::numeric_limits<float>::quiet_NaN());
        const Status status = run(plan(), {{"x", TensorView(in.data(), DType::f32, {kBatch, length, config.dim})},
                                           {"out", TensorView(result.data(), DType::f32, {kBatch, length, config.dim})}});
        ASSERT_TRUE(status.ok()) << length << ": " << status.message();
        EXPECT_TRUE(std::all_of(result.begin(), result.end(), [](float v) { return std::isfinite(v); })) << length;
    }
}

TEST_F(MixtureTest, StridedInputsAndOutputsGiveTheSameBits) {
    ASSERT_TRUE(run(plan(), {{"x", input()}, {"out", output()}}).ok());
    constexpr int64_t kPitch = 31;
    std::vector<float> wide(kBatch * kLength * kPitch, -7), wide_out(wide.size(), -7);
    for (int64_t row = 0; row < kBatch * kLength; row++) {
        std::copy_n(x.begin() + row * config.dim, config.dim, wide.begin() + row * kPitch);
    }
    const auto view = [&](std::vector<float> &memory) {
        TensorView v(memory.data(), DType::f32, {kBatch, kLength, config.dim});
        v.strides = {kLength * kPitch, kPitch, 1};
        return v;
    };
    ASSERT_TRUE(run(plan(), {{"x", view(wide)}, {"out", view(wide_out)}}).ok());
    for (int64_t row = 0; row < kBatch * kLength; row++) {
        EXPECT_EQ(std::memcmp(&wide_out[row * kPitch], &out[row * config.dim], config.dim * sizeof(float)), 0) << row;
        for (int64_t c = config.dim; c < kPitch; c++) {
            EXPECT_EQ(wide_out[row * kPitch + c], -7) << "written between rows";
        }
    }
}

TEST(AttentionLayer, NanOfAMaskedTokenStaysThere) {
    constexpr int64_t kExperts = 2, kKeys = 37, kQueries = 5, kDim = 24;
    Attention::Config config;
    config.dim = kDim;
    config.dim_head = 8;
    config.heads = 2;
    config.groups = kExperts;
    config.prenorm = true;
    Weights weights;
    const int64_t inner = config.heads * config.dim_head;
    weights.add("null_kv", {2, kExperts, config.heads, 1, config.dim_head});
    weights.add("norm.gamma", {kExperts, kDim, 1});
    weights.add("context_norm.gamma", {kExperts, kDim, 1});
    weights.add("to_q.weight", {kExperts * inner, kDim, 1}, 0.2f);
    weights.add("to_kv.weight", {kExperts * 2 * inner, kDim, 1}, 0.2f);
    weights.add("to_out.weight", {kExperts * kDim, inner, 1}, 0.2f);
    const Result<Attention> layer = Attention::create(config, weights.map);
    ASSERT_TRUE(layer.ok()) << layer.status().message();
    for (const bool per_group : {false, true}) {
        Attention::Shapes shapes;
        shapes.queries = kQueries;
        shapes.keys = kKeys;
        shapes.mask = true;
        shapes.group_mask = per_group;
        PlanOptions options;
        options.device = test_device();
        const Result<Plan> plan = layer->plan(shapes, options);
        ASSERT_TRUE(plan.ok()) << plan.status().message();
        const std::vector<float> x = normal_values(kExperts * kQueries * kDim, 1);
        std::vector<float> context = normal_values(kExperts * kKeys * kDim, 2), out(x.size()), clean;
        std::vector<uint8_t> mask(per_group ? kExperts * kKeys : kKeys, 1);
        for (size_t row = 0; row < mask.size(); row += kKeys) {
            mask[row + 4] = 0;
        }
        const TensorView mask_view = per_group ? TensorView(mask.data(), DType::boolean, {1, kExperts, kKeys}) : TensorView(mask.data(), DType::boolean, {1, kKeys});
        for (const float hidden : {3.f, std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
            for (int64_t e = 0; e < kExperts; e++) {
                std::fill_n(context.begin() + (e * kKeys + 4) * kDim, kDim, hidden);
            }
            const Status status = run(*plan, {{"x", TensorView(x.data(), DType::f32, {1, kExperts, kQueries, kDim})},
                                              {"context", TensorView(context.data(), DType::f32, {1, kExperts, kKeys, kDim})},
                                              {"mask", mask_view},
                                              {"out", TensorView(out.data(), DType::f32, {1, kExperts, kQueries, kDim})}});
            ASSERT_TRUE(status.ok()) << status.message();
            clean = clean.empty() ? out : clean;
            EXPECT_EQ(out, clean) << hidden;
        }
    }
}

TEST(Mixture, AMillionPositions) {
    MixtureOfAttention::Config config = small_config();
    config.dim = 8;
    config.num_experts = 1;
    config.heads = 1;
    config.local_attn = false;
    config.num_routed_queries = config.num_routed_key_values = 64;
    Weights weights;
    add_weights(weights, config);
    Result<MixtureOfAttention> layer = MixtureOfAttention::create(config, weights.map);
    ASSERT_TRUE(layer.ok()) << layer.status().message();
    MixtureOfAttention::Shapes shapes;
    shapes.length = int64_t{1} << 20;
    PlanOptions options;
    options.device = test_device();
    const Result<Plan> plan = layer->plan(shapes, options);
    ASSERT_TRUE(plan.ok()) << plan.status().message();
    const std::vector<float> x = normal_values(static_cast<size_t>(shapes.length * config.dim), 9);
    std::vector<float> out(x.size());
    std::vector<int64_t> queries(64);
    const Status status = run(*plan, {{"x", TensorView(x.data(), DType::f32, {1, shapes.length, config.dim})},
                                      {"query_indices", TensorView(queries.data(), DType::i64, {1, 1, 64})},
                                      {"out", TensorView(out.data(), DType::f32, {1, shapes.length, config.dim})}});
    ASSERT_TRUE(status.ok()) << status.message();
    EXPECT_TRUE(std::is_sorted(queries.begin(), queries.end()));
    const auto *null_token = static_cast<const float *>(weights.map["null_routed_token"].data);
    int64_t routed = 0;
    for (int64_t n = 0; n < shapes.length; n++) {
        routed += std::memcmp(&out[n * config.dim], null_token, sizeof(float) * config.dim) != 0 ? 1 : 0;
    }
    EXPECT_EQ(routed, 64);
}

}  // namespace
}  // namespace moa::tests
