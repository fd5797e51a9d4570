#include "tests/cuda/copy_plan.h"
#include "tests/cuda/fake_driver.h"

#include "moa/cuda.h"
#include "moa/feed_forward.h"
#include "runtime/plan_builder.h"
#include "workloads/random_layer.h"

#include <algorithm>
#include <cstring>
#include <dlfcn.h>
#include <gtest/gtest.h>

// With the driver of fake_driver.cpp in the place of NVIDIA's: what goes wrong must come back as a Status that says what is
// there and what is needed, and leave the process usable.
namespace moa {
namespace {

using tests::indices_plan;
using tests::kGpu;
using tests::says;

tests::FakeDriver *fake() {
    void *library = dlopen("libcuda.so.1", RTLD_NOW);
    auto *get = library == nullptr ? nullptr : reinterpret_cast<tests::FakeDriver *(*)()>(dlsym(library, "moa_fake_driver"));
    return get == nullptr ? nullptr : get();
}

class FakeDriver : public testing::Test {
protected:
    void SetUp() override {
        if (fake() == nullptr) {
            GTEST_SKIP() << "libcuda.so.1 is another driver";
        }
        *fake() = {.allocated = fake()->allocated};
    }
};

TEST_F(FakeDriver, DevicesAreDescribed) {
    const Result<DeviceDescription> gpu = describe_device(kGpu);
    ASSERT_TRUE(gpu.ok()) << gpu.status().message();
    EXPECT_EQ(gpu->name, "Fake GPU");
    EXPECT_EQ(gpu->capability, 90);
    EXPECT_EQ(gpu->shared_bytes, 227 * 1024);
    const Status absent = describe_device({DeviceType::cuda, 3}).status();
    EXPECT_EQ(absent.code(), Code::not_found);
    EXPECT_TRUE(says(absent, "cuda:3") && says(absent, "1 device")) << absent.message();
    fake()->capability = 75;
    const Status old = describe_device(kGpu).status();
    EXPECT_EQ(old.code(), Code::unsupported);
    EXPECT_TRUE(says(old, "7.5") && says(old, "8.0") && says(old, "Fake GPU")) << old.message();
    EXPECT_EQ(indices_plan(false).status().code(), Code::unsupported);
}

// First, since modules are loaded once a process.
TEST_F(FakeDriver, ADriverTooOldForThePtxIsNamed) {
    fake()->load_error = 222;
    const Status status = indices_plan(false).status();
    EXPECT_EQ(status.code(), Code::unsupported);
    EXPECT_TRUE(says(status, "CUDA 12.2") && says(status, "PTX 7.0") && says(status, "CUDA_ERROR_UNSUPPORTED_PTX_VERSION")) << status.message();
    fake()->load_error = 0;
    EXPECT_TRUE(indices_plan(false).ok());
}

TEST_F(FakeDriver, RunsAllocateNothingAndWaitForNothing) {
    const Result<Plan> plan = indices_plan(false);
    ASSERT_TRUE(plan.ok()) << plan.status().message();
    const Result<cuda::DeviceBuffer> in = cuda::DeviceBuffer::allocate(kGpu, 240), out = cuda::DeviceBuffer::allocate(kGpu, 480);
    const Result<cuda::DeviceBuffer> workspace = cuda::DeviceBuffer::allocate(kGpu, plan->workspace_bytes());
    ASSERT_TRUE(in.ok() && out.ok() && workspace.ok());
    const NamedTensor tensors[] = {{"in", {in->data(), DType::i32, {1, 2, 30}, kGpu}}, {"out", {out->data(), DType::i64, {1, 2, 30}, kGpu}}};
    const tests::FakeDriver before = *fake();
    ASSERT_TRUE(plan->run(tensors, workspace->bytes()).ok());
    EXPECT_EQ(fake()->launches, before.launches + 1);
    EXPECT_EQ(fake()->allocated, before.allocated);
    EXPECT_EQ(fake()->modules, before.modules);
    EXPECT_EQ(fake()->synchronisations, before.synchronisations);

    fake()->launch_error = 719;
    const Status failed = plan->run(tensors, workspace->bytes());
    EXPECT_EQ(failed.code(), Code::device_error) << failed.message();
    EXPECT_TRUE(says(failed, "copy: ") && says(failed, "launching") && says(failed, "CUDA_ERROR_OF_THE_FAKE")) << failed.message();
    fake()->launch_error = 2;
    EXPECT_EQ(plan->run(tensors, workspace->bytes()).code(), Code::out_of_memory);
    fake()->launch_error = 0;
    EXPECT_TRUE(plan->run(tensors, workspace->bytes()).ok());
}

TEST_F(FakeDriver, MemoryRunsOutAndIsGivenBack) {
    const int before = fake()->allocated;
    {
        const Result<cuda::DeviceBuffer> buffer = cuda::DeviceBuffer::allocate(kGpu, 1000);
        ASSERT_TRUE(buffer.ok());
        EXPECT_EQ(fake()->allocated, before + 1);
        fake()->memory_error = 2;
        const Status status = cuda::DeviceBuffer::allocate(kGpu, 1000).status();
        EXPECT_EQ(status.code(), Code::out_of_memory);
        EXPECT_TRUE(says(status, "1000 bytes on cuda:0") && says(status, "Fake GPU")) << status.message();
    }
    EXPECT_EQ(fake()->allocated, before);
}

TEST_F(FakeDriver, RowsThatNeedMoreSharedMemoryArePassedOver) {
    constexpr int kSmall = 99 * 1024;
    fake()->shared_bytes = kSmall;
    const Result<DeviceDescription> small = describe_device(kGpu);
    ASSERT_TRUE(small.ok()) << small.status().message();
    EXPECT_EQ(small->shared_bytes, kSmall);
    int larger = 0;
    for (const Row &row : built_rows()) {
        if (row.device != DeviceType::cuda) {
            continue;
        }
        Problem problem(row.op, row.dtype == "bf16" ? DType::bf16 : (row.dtype == "f16" ? DType::f16 : DType::f32), {});
        problem.precision = row.dtype == "tf32" ? Precision::tf32 : Precision::exact;
        const std::string name(row.name);
        const Status status = select(problem, *small, built_rows(), {&name, 1}).status();
        EXPECT_EQ(says(status, std::to_string(row.shared_bytes) + " bytes of shared memory a block, not 101376"), row.shared_bytes > kSmall) << status.message();
        larger += row.shared_bytes > kSmall ? 1 : 0;
    }
    EXPECT_GT(larger, 0);
}

// A product of bf16 for tensor cores, of x [2, 32, 64]; its kernels do nothing.
class FakeProduct : public FakeDriver {
protected:
    static constexpr int64_t kBatch = 2, kRows = 32, kWidth = 64, kElements = kBatch * kRows * kWidth;

    void SetUp() override {
        FakeDriver::SetUp();
        if (IsSkipped()) {
            return;
        }
        const std::vector<float> weights(kWidth * kWidth, 0.5f);
        const Result<Linear> layer = Linear::create({.dim_in = kWidth, .dim_out = kWidth}, {{"weight", {weights.data(), DType::f32, {kWidth, kWidth}}}});
        ASSERT_TRUE(layer.ok()) << layer.status().message();
        PlanOptions options;
        options.device = kGpu;
        options.dtype = DType::bf16;
        Result<Plan> made = layer->plan(kBatch, kRows, options);
        if (made.status().code() == Code::unsupported) {
            GTEST_SKIP() << made.status().message();
        }
        ASSERT_TRUE(made.ok()) << made.status().message();
        plan_ = std::make_unique<Plan>(*std::move(made));
        if (plan_->steps().back().aligned.empty()) {
            GTEST_SKIP() << plan_->steps().back().row << " takes any tensor";
        }
        for (cuda::DeviceBuffer *buffer : {&x_, &out_}) {
            *buffer = *cuda::DeviceBuffer::allocate(kGpu, 4 * kElements);
        }
        workspace_ = *cuda::DeviceBuffer::allocate(kGpu, plan_->workspace_bytes());
        for (size_t i = 0; i < x_.size(); i++) {
            x_.bytes()[i] = static_cast<std::byte>(i * 7 % 251);
        }
        std::memset(out_.data(), 0, out_.size());
    }
    // Elements after the buffer's beginning, and after every row.
    static TensorView view(const cuda::DeviceBuffer &buffer, int64_t shift, int64_t pad) {
        TensorView tensor(buffer.bytes().data() + 2 * shift, DType::bf16, {kBatch, kRows, kWidth}, kGpu);
        tensor.strides[1] = kWidth + pad;
        tensor.strides[0] = kRows * (kWidth + pad);
        return tensor;
    }
    struct Count {
        int copies, launches;
    };
    Count run(const TensorView &x, const TensorView &out) {
        std::memset(workspace_.data(), 0xa5, workspace_.size());
        const tests::FakeDriver before = *fake();
        const Status status = plan_->run({{"x", x}, {"out", out}}, workspace_.bytes());
        EXPECT_TRUE(status.ok()) << status.message();
        EXPECT_EQ(fake()->allocated, before.allocated);
        EXPECT_EQ(fake()->synchronisations, before.synchronisations);
        return {fake()->copies - before.copies, fake()->launches - before.launches};
    }

    std::unique_ptr<Plan> plan_;
    cuda::DeviceBuffer x_, out_, workspace_;
};

TEST_F(FakeProduct, AlignedTensorsAreNotCopied) {
    EXPECT_EQ(plan_->steps().back().aligned, (std::vector<std::string>{"x", "out"}));
    const Count dense = run(view(x_, 0, 0), view(out_, 0, 0)), padded = run(view(x_, 8, 8), view(out_, 8, 16));
    EXPECT_EQ(dense.copies, 0);
    EXPECT_EQ(padded.copies, 0);
    EXPECT_GT(dense.launches, 0);
}

TEST_F(FakeProduct, MisalignedTensorsAreCopied) {
    const int launches = run(view(x_, 0, 0), view(out_, 0, 0)).launches;
    for (const auto &[shift, pad] : {std::pair{int64_t{1}, int64_t{0}}, {4, 0}, {0, 1}, {3, 5}}) {
        const TensorView x = view(x_, shift, pad), out = view(out_, shift, pad);
        const Count input = run(x, view(out_, 0, 0));
        EXPECT_EQ(input.launches, launches);
        EXPECT_GT(input.copies, 0);
        // The kernel would have read this.
        std::vector<std::byte> dense(2 * kElements);
        for (int64_t row = 0; row < kBatch * kRows; row++) {
            std::memcpy(dense.data() + row * 2 * kWidth, static_cast<std::byte *>(x.data) + row * 2 * (kWidth + pad), 2 * kWidth);
        }
        const std::span<std::byte> all = workspace_.bytes();
        EXPECT_NE(std::search(all.begin(), all.end(), dense.begin(), dense.end()), all.end()) << shift << " " << pad;
        // And this is what it would have written, between elements that are nobody's.
        std::memset(out_.data(), 0, out_.size());
        EXPECT_GT(run(view(x_, 0, 0), out).copies, 0);
        const auto *first = static_cast<const std::byte *>(out.data);
        EXPECT_EQ(first[0], std::byte{0xa5});
        EXPECT_EQ(first[2 * ((kRows * kBatch - 1) * (kWidth + pad) + kWidth) - 1], std::byte{0xa5});
        EXPECT_EQ(first[2 * kWidth], pad == 0 ? std::byte{0xa5} : std::byte{0});
        EXPECT_TRUE(plan_->graph({{"x", x}, {"out", out}}, workspace_.bytes()).ok());
    }
}

// Of a plan for a GPU that is not here, whose rows check their arguments as they would there.
TEST_F(FakeDriver, RandomLayersArePlannedAndRun) {
    int planned = 0;
    for (const auto &[dtype, precision] : {std::pair{DType::f32, Precision::exact}, {DType::f32, Precision::tf32}, {DType::bf16, Precision::exact}, {DType::f16, Precision::exact}}) {
        const std::string_view row_dtype = precision == Precision::tf32 ? "tf32" : name_of(dtype);
        const auto rows = built_rows();
        const auto of_dtype = [&](const Row &row) { return row.device == DeviceType::cuda && row.op == "project" && row.dtype == row_dtype; };
        if (std::none_of(rows.begin(), rows.end(), of_dtype)) {
            continue;
        }
        for (uint64_t seed = 1; seed <= 60; seed++) {
            const auto layer = workloads::RandomLayer::make(seed, dtype, {.most_products = 1e6});
            ASSERT_TRUE(layer.ok()) << layer.status().message();
            PlanOptions options;
            options.device = kGpu;
            options.precision = precision;
            const Result<Plan> plan = (*layer)->plan(options);
            ASSERT_TRUE(plan.ok()) << (*layer)->text() << "\n"
                                   << plan.status().message();
            planned++;
            std::vector<NamedTensor> tensors((*layer)->instance().tensors().begin(), (*layer)->instance().tensors().end());
            for (NamedTensor &named : tensors) {
                named.tensor.device = kGpu;
            }
            const Result<cuda::DeviceBuffer> workspace = cuda::DeviceBuffer::allocate(kGpu, plan->workspace_bytes());
            ASSERT_TRUE(workspace.ok()) << workspace.status().message();
            const Status status = plan->run(tensors, workspace->bytes());
            EXPECT_TRUE(status.ok()) << (*layer)->text() << "\n"
                                     << status.message();
        }
    }
    if (planned == 0) {
        GTEST_SKIP() << "this build has no rows for GPUs of whole layers";
    }
}

TEST(NoDevice, IsSaid) {
    const char *kind = std::getenv("MOA_FAKE_DRIVER");
    if (fake() == nullptr || kind == nullptr) {
        GTEST_SKIP() << "needs the fake driver without a device";
    }
    EXPECT_EQ(cuda::device_count(), 0);
    const Status status = indices_plan(false).status();
    EXPECT_EQ(status.code(), Code::unsupported);
    EXPECT_TRUE(says(status, "cuda:0") && says(status, "cuInit")) << status.message();
}

}  // namespace
}  // namespace moa
