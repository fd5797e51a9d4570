#include "tests/cuda/copy_plan.h"
#include "tests/cuda/fake_driver.h"

#include "moa/cuda.h"
#include "runtime/plan_builder.h"
#include "tests/child.h"

#include <cstdlib>
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <string_view>

// Drivers that cannot be used: that of a parent process, and a toolkit's stub.
namespace moa {
namespace {

using tests::indices_plan;
using tests::kGpu;
using tests::says;

bool is_fake() {
    void *library = dlopen("libcuda.so.1", RTLD_NOW);
    return library != nullptr && dlsym(library, "moa_fake_driver") != nullptr;
}

// With any driver.
TEST(ForkedDriver, AChildIsToldThatItsParentHasIt) {
    if (!describe_device(kGpu).ok()) {
        GTEST_SKIP() << describe_device(kGpu).status().message();
    }
    const Result<Plan> plan = indices_plan(false);
    ASSERT_TRUE(plan.ok()) << plan.status().message();
    Result<cuda::DeviceBuffer> memory = cuda::DeviceBuffer::allocate(kGpu, 240 + 480);
    const Result<cuda::DeviceBuffer> workspace = cuda::DeviceBuffer::allocate(kGpu, plan->workspace_bytes());
    const Result<cuda::Stream> stream = cuda::Stream::create(kGpu);
    ASSERT_TRUE(memory.ok() && workspace.ok() && stream.ok());
    const NamedTensor tensors[] = {{"in", {memory->data(), DType::i32, {1, 2, 30}, kGpu}}, {"out", {memory->data() + 240, DType::i64, {1, 2, 30}, kGpu}}};
    const auto told = [](const Status &status) { return status.code() == Code::device_error && says(status, "fork()"); };
    const auto child = [&] {
        int wrong = told(plan->run(tensors)) ? 0 : 1;
        wrong |= told(plan->run(tensors, workspace->bytes())) ? 0 : 2;
        wrong |= told(plan->graph(tensors, workspace->bytes()).status()) ? 0 : 4;
        wrong |= told(indices_plan(true).status()) ? 0 : 8;
        wrong |= told(describe_device(kGpu).status()) && cuda::device_count() == 0 ? 0 : 16;
        wrong |= told(cuda::DeviceBuffer::allocate(kGpu, 1).status()) && told(memory->copy_from_host("x", 1)) ? 0 : 32;
        wrong |= told(stream->synchronize()) && told(cuda::synchronize(kGpu)) ? 0 : 64;
        memory = cuda::DeviceBuffer();  // is left to the parent
        return wrong;
    };
    EXPECT_EQ(tests::end_of_child(child), "exit 0");
    EXPECT_TRUE(plan->run(tensors).ok());
}

TEST(FakeDriverUnopened, AChildOfForkMayOpenIt) {
    if (!is_fake() || std::getenv("MOA_FAKE_DRIVER") != nullptr) {
        GTEST_SKIP() << "needs the fake driver";
    }
    const auto child = [] { return describe_device(kGpu).ok() && indices_plan(false).ok() ? 0 : 1; };
    EXPECT_EQ(tests::end_of_child(child), "exit 0");
    EXPECT_TRUE(describe_device(kGpu).ok());
    EXPECT_EQ(tests::end_of_child(child), "exit 1");
}

TEST(Stub, IsSaid) {
    const char *kind = std::getenv("MOA_FAKE_DRIVER");
    if (!is_fake() || kind == nullptr) {
        GTEST_SKIP() << "needs the fake driver as a stub";
    }
    const Status status = describe_device(kGpu).status();
    EXPECT_EQ(status.code(), Code::unsupported);
    EXPECT_TRUE(says(status, "stub") && says(status, "LD_LIBRARY_PATH") && says(status, "cuda:0")) << status.message();
    EXPECT_EQ(indices_plan(false).status().message(), status.message());
    // Nothing was opened that a child would miss: it is told the same.
    EXPECT_EQ(tests::end_of_child([&] { return describe_device(kGpu).status().message() == status.message() ? 0 : 1; }), "exit 0");
}

}  // namespace
}  // namespace moa
