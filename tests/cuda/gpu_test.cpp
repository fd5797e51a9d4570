#include "tests/layers/random_layers.h"
#include "tests/test_device.h"
#include "workloads/layers.h"

#include <atomic>
#include <cstring>
#include <gtest/gtest.h>
#include <limits>
#include <memory>
#include <string>
#include <thread>

// Promises of plans on a GPU besides their results. Skipped on machines without one.
namespace moa::tests {
namespace {

constexpr int64_t kBatch = 2, kLength = 41;

class GpuTest : public testing::Test {
protected:
    void SetUp() override {
        const Result<DeviceDescription> gpu = describe_device(test_gpu());
        if (!gpu.ok()) {
            GTEST_SKIP() << gpu.status().message();
        }
        add_weights(weights, config);
        Result<MixtureOfAttention> made = MixtureOfAttention::create(config, weights.map);
        ASSERT_TRUE(made.ok()) << made.status().message();
        layer = std::make_unique<MixtureOfAttention>(*std::move(made));
        shapes.batch = kBatch;
        shapes.length = kLength;
        x = normal_values(kBatch * kLength * config.dim, 1);
        Result<Plan> planned = layer->plan(shapes, options());
        if (planned.status().code() == Code::unsupported) {
            GTEST_SKIP() << planned.status().message();
        }
        ASSERT_TRUE(planned.ok()) << planned.status().message();
        plan = std::make_unique<Plan>(*std::move(planned));
    }

    static PlanOptions options() {
        PlanOptions made;
        made.device = test_gpu();
        return made;
    }

    size_t bytes() const {
        return x.size() * sizeof(float);
    }

    // Memory of one run: what threads and streams must not share.
    struct Memory {
        cuda::DeviceBuffer x, out, workspace;
        std::vector<float> result;
    };
    Memory memory(const std::vector<float> &values) const {
        const auto allocate = [](size_t count) {
            Result<cuda::DeviceBuffer> buffer = cuda::DeviceBuffer::allocate(test_gpu(), count);
            EXPECT_TRUE(buffer.ok()) << buffer.status().message();
            return buffer.ok() ? *buffer : cuda::DeviceBuffer();
        };
        Memory made{allocate(bytes()), allocate(bytes()), allocate(plan->workspace_bytes()), std::vector<float>(values.size())};
        const std::vector<std::byte> nothing(std::max(made.workspace.size(), bytes()), std::byte{0xff});  // NaN where nobody wrote
        EXPECT_TRUE(made.x.copy_from_host(values.data(), bytes()).ok());
        EXPECT_TRUE(made.out.copy_from_host(nothing.data(), bytes()).ok());
        EXPECT_TRUE(made.workspace.copy_from_host(nothing.data(), made.workspace.size()).ok());
        return made;
    }
    std::vector<NamedTensor> tensors(const Memory &m) const {
        const auto view = [&](const cuda::DeviceBuffer &buffer) { return TensorView(buffer.data(), DType::f32, {kBatch, kLength, config.dim}, test_gpu()); };
        return {{"x", view(m.x)}, {"out", view(m.out)}};
    }
    void fetch(Memory &m) const {
        EXPECT_TRUE(m.out.copy_to_host(m.result.data(), bytes()).ok());
    }
    std::vector<float> result_of(const std::vector<float> &values) const {
        Memory m = memory(values);
        const Status status = plan->run(tensors(m), m.workspace.bytes());
        EXPECT_TRUE(status.ok()) << status.message();
        fetch(m);
        return m.result;
    }
    static bool same(const std::vector<float> &a, const std::vector<float> &b) {
        return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
    }

    MixtureOfAttention::Config config = small_config();
    MixtureOfAttention::Shapes shapes;
    Weights weights;
    std::unique_ptr<MixtureOfAttention> layer;
    std::unique_ptr<Plan> plan;
    std::vector<float> x;
};

TEST_F(GpuTest, AgreesWithTheCpu) {
    const std::vector<float> got = result_of(x);
    std::vector<float> want(x.size());
    const Result<Plan> cpu = layer->plan(shapes);
    ASSERT_TRUE(cpu.ok()) << cpu.status().message();
    ASSERT_TRUE(run(*cpu, {{"x", TensorView(x.data(), DType::f32, {kBatch, kLength, config.dim})}, {"out", TensorView(want.data(), DType::f32, {kBatch, kLength, config.dim})}}).ok());
    for (size_t i = 0; i < want.size(); i++) {
        ASSERT_NEAR(got[i], want[i], 1e-3) << i;
    }
}

TEST_F(GpuTest, EveryRunGivesTheSameBits) {
    const std::vector<float> first = result_of(x);
    for (int again = 0; again < 20; again++) {
        EXPECT_TRUE(same(result_of(x), first)) << again;
    }
}

TEST_F(GpuTest, StreamsRunAtOnce) {
    const std::vector<float> other = normal_values(x.size(), 2), want = result_of(x), other_want = result_of(other);
    Result<cuda::Stream> first = cuda::Stream::create(test_gpu()), second = cuda::Stream::create(test_gpu());
    ASSERT_TRUE(first.ok() && second.ok());
    Memory a = memory(x), b = memory(other);
    for (int again = 0; again < 50; again++) {
        ASSERT_TRUE(plan->run(tensors(a), a.workspace.bytes(), first->get()).ok());
        ASSERT_TRUE(plan->run(tensors(b), b.workspace.bytes(), second->get()).ok());
    }
    ASSERT_TRUE(first->synchronize().ok() && second->synchronize().ok());
    fetch(a);
    fetch(b);
    EXPECT_TRUE(same(a.result, want));
    EXPECT_TRUE(same(b.result, other_want));
}

TEST_F(GpuTest, ThreadsShareOnePlan) {
    const std::vector<float> want = result_of(x);
    std::atomic<int> wrong{0};
    std::vector<std::thread> threads;
    threads.reserve(2);
    for (int t = 0; t < 2; t++) {
        threads.emplace_back([&] {
            const Result<cuda::Stream> stream = cuda::Stream::create(test_gpu());
            Memory m = memory(x);
            for (int again = 0; again < 20; again++) {
                const bool ran = stream.ok() && plan->run(tensors(m), m.workspace.bytes(), stream->get()).ok() && stream->synchronize().ok();
                fetch(m);
                wrong += !ran || !same(m.result, want) ? 1 : 0;
            }
        });
    }
    for (std::thread &thread : threads) {
        thread.join();
    }
    EXPECT_EQ(wrong, 0);
}

TEST_F(GpuTest, DevicesWorkAtOnce) {
    if (cuda::device_count() < 2) {
        GTEST_SKIP() << "there is one GPU";
    }
    const std::vector<float> want = result_of(x);
    const Device other{DeviceType::cuda, test_gpu().index == 0 ? 1 : 0};
    PlanOptions there;
    there.device = other;
    Result<Plan> second = layer->plan(shapes, there);
    ASSERT_TRUE(second.ok()) << second.status().message();
    std::atomic<int> wrong{0};
    const auto work = [&](const Plan &made) {
        for (int again = 0; again < 20; again++) {
            std::vector<float> out(x.size());
            const auto view = [&](const std::vector<float> &values) { return TensorView(values.data(), DType::f32, {kBatch, kLength, config.dim}); };
            wrong += !run(made, {{"x", view(x)}, {"out", view(out)}}).ok() || !same(out, want) ? 1 : 0;
        }
    };
    std::vector<std::thread> threads;
    threads.reserve(4);
    for (int t = 0; t < 4; t++) {
        threads.emplace_back([&, t] { work(t % 2 == 0 ? *plan : *second); });
    }
    for (std::thread &thread : threads) {
        thread.join();
    }
    EXPECT_EQ(wrong, 0);
    // Tensors of one device are no tensors of the other.
    Memory m = memory(x);
    const Status status = second->run(tensors(m), m.workspace.bytes());
    EXPECT_EQ(status.code(), Code::invalid_argument);
    EXPECT_NE(status.message().find("on cuda:" + std::to_string(other.index)), std::string::npos) << status.message();
}

TEST_F(GpuTest, PlansAreMadeByThreadsAtOnce) {
    std::atomic<int> failed{0};
    std::vector<std::thread> threads;
    threads.reserve(4);
    for (int t = 0; t < 4; t++) {
        threads.emplace_back([&] { failed += layer->plan(shapes, options()).ok() ? 0 : 1; });
    }
    for (std::thread &thread : threads) {
        thread.join();
    }
    EXPECT_EQ(failed, 0);
}

TEST_F(GpuTest, GraphsReplayARun) {
    const std::vector<float> want = result_of(x), other = normal_values(x.size(), 2), other_want = result_of(other);
    Memory m = memory(x);
    const Result<Graph> graph = plan->graph(tensors(m), m.workspace.bytes());
    ASSERT_TRUE(graph.ok()) << graph.status().message();
    EXPECT_GT(graph->nodes(), 0U);
    plan.reset();  // the graph keeps what it needs
    layer.reset();
    const Result<cuda::Stream> stream = cuda::Stream::create(test_gpu());
    ASSERT_TRUE(stream.ok());
    const std::vector<float> &first = x;
    for (const auto &[values, wanted] : {std::pair(&first, &want), std::pair(&other, &other_want)}) {
        ASSERT_TRUE(m.x.copy_from_host(values->data(), bytes()).ok());
        for (int again = 0; again < 3; again++) {
            ASSERT_TRUE(graph->launch(stream->get()).ok());
        }
        ASSERT_TRUE(stream->synchronize().ok());
        fetch(m);
        EXPECT_TRUE(same(m.result, *wanted));
    }
}

// Of a run that asks for no indices: a step that writes those launches nothing then.
int launches_of(const Plan &plan) {
    int launches = 0;
    for (const Plan::Step &step : plan.steps()) {
        launches += step.name == "write indices" ? 0 : step.launches;
    }
    return launches;
}

TEST_F(GpuTest, SelfAttentionTakesFewLaunches) {
    const int launches = launches_of(*plan);
    EXPECT_LE(launches, 11) << "queries and keys are selected one after the other";
    EXPECT_GT(launches, 0);
}

TEST_F(GpuTest, LayersOfTheBenchTakeTenLaunches) {
    for (const workloads::LayerCase &layer_case : workloads::layer_cases()) {
        if (!layer_case.name.starts_with("moa_self_")) {
            continue;
        }
        for (const DType dtype : {DType::f32, DType::bf16}) {
            const Result<std::unique_ptr<workloads::LayerInstance>> instance = layer_case.make(dtype);
            ASSERT_TRUE(instance.ok()) << instance.status().message();
            const Result<Plan> made = (*instance)->plan(options());
            if (made.status().code() == Code::unsupported) {
                continue;  // a build without the dtype
            }
            ASSERT_TRUE(made.ok()) << layer_case.name << ": " << made.status().message();
            EXPECT_LE(launches_of(*made), 10) << layer_case.name << " " << name_of(dtype);
        }
    }
}

TEST_F(GpuTest, NanStaysInItsBatchEntry) {
    const std::vector<float> clean = result_of(x);
    std::vector<float> dirty = x;
    std::fill_n(dirty.begin() + 5 * config.dim, config.dim, std::numeric_limits<float>::quiet_NaN());
    const std::vector<float> got = result_of(dirty);
    const auto half = static_cast<std::ptrdiff_t>(x.size() / 2);
    EXPECT_EQ(std::memcmp(got.data() + half, clean.data() + half, bytes() / 2), 0);
}

TEST_F(GpuTest, SaysWhatIsWrongWithArguments) {
    Memory m = memory(x);
    const auto refusal = [&](std::vector<NamedTensor> changed, std::span<std::byte> workspace) {
        const Status status = plan->run(changed, workspace);
        EXPECT_EQ(status.code(), Code::invalid_argument);
        return status.message();
    };
    std::vector<NamedTensor> elsewhere = tensors(m);
    elsewhere[0].tensor.device = {};
    EXPECT_NE(refusal(elsewhere, m.workspace.bytes()).find("on cuda:0, not f32 [2, 41, 24] on cpu"), std::string::npos);
    elsewhere[0].tensor.device = {DeviceType::cuda, 1};
    EXPECT_NE(refusal(elsewhere, m.workspace.bytes()).find("cuda:1"), std::string::npos);
    EXPECT_NE(refusal(tensors(m), m.workspace.bytes().first(plan->workspace_bytes() - 1)).find("workspace"), std::string::npos);
    std::vector<NamedTensor> misaligned = tensors(m);
    misaligned[0].tensor.data = static_cast<std::byte *>(misaligned[0].tensor.data) + 2;
    EXPECT_NE(refusal(misaligned, m.workspace.bytes()).find("not aligned to 4 bytes"), std::string::npos);
    EXPECT_TRUE(same(result_of(x), result_of(x)));
}

TEST_F(GpuTest, DevicesThatDoNotExistAreNamed) {
    PlanOptions there_is_none;
    there_is_none.device = {DeviceType::cuda, 99};
    const Status status = layer->plan(shapes, there_is_none).status();
    EXPECT_EQ(status.code(), Code::not_found);
    EXPECT_NE(status.message().find("cuda:99"), std::string::npos) << status.message();
}

TEST_F(GpuTest, RunningOutOfMemoryIsSurvived) {
    const std::vector<float> want = result_of(x);
    const Status status = cuda::DeviceBuffer::allocate(test_gpu(), size_t{1} << 50).status();
    EXPECT_EQ(status.code(), Code::out_of_memory) << status.message();
    EXPECT_NE(status.message().find("cuda:"), std::string::npos) << status.message();
    EXPECT_TRUE(same(result_of(x), want));
}

}  // namespace
}  // namespace moa::tests
