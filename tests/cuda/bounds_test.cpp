#include "tests/cuda/fake_driver.h"
#include "tests/failing_memory.h"
#include "tests/layers/any_arguments.h"
#include "tests/layers/every_layer.h"

#include <dlfcn.h>
#include <gtest/gtest.h>

// Whole layers on the driver of fake_driver.cpp: what is wrong with a run is found before its first launch, and memory that runs
// out on the host comes back as a Status.
namespace moa::tests {
namespace {

constexpr Device kGpu{DeviceType::cuda, 0};

FakeDriver *fake() {
    void *library = dlopen("libcuda.so.1", RTLD_NOW);
    auto *get = library == nullptr ? nullptr : reinterpret_cast<FakeDriver *(*)()>(dlsym(library, "moa_fake_driver"));
    return get == nullptr ? nullptr : get();
}

class FakeBounds : public testing::TestWithParam<size_t> {
protected:
    void SetUp() override {
        if (fake() == nullptr) {
            GTEST_SKIP() << "libcuda.so.1 is another driver";
        }
        *fake() = {.allocated = fake()->allocated};
        options.device = kGpu;
    }
    const AnyLayer &layer() const {
        return every_layer()[GetParam()];
    }
    PlanOptions options;
};

// The fake's device memory is the host's.
std::vector<NamedTensor> on_gpu_of(AnyArguments &arguments) {
    std::vector<NamedTensor> tensors = arguments.tensors();
    for (NamedTensor &tensor : tensors) {
        tensor.tensor.device = kGpu;
    }
    return tensors;
}

TEST_P(FakeBounds, WhatIsWrongIsFoundBeforeTheFirstLaunch) {
    const Result<Plan> plan = layer().make(options);
    ASSERT_TRUE(plan.ok()) << plan.status().message();
    AnyArguments arguments(*plan);
    const Bytes workspace(plan->workspace_bytes(), 0);
    ASSERT_TRUE(plan->run(on_gpu_of(arguments), workspace.span()).ok());
    int refused = 0;
    for (size_t index = 0; index < arguments.tensors().size(); index++) {
        const TensorView whole = on_gpu_of(arguments)[index].tensor;
        const Bytes room(static_cast<size_t>(whole.elements()) * size_bytes(whole.dtype) * 4 + 1024, 1);
        for (const int64_t misfit : {0, 1, 2, 3}) {  // of the address in elements, of rows, of planes; an odd pitch
            TensorView view = whole;
            view.data = room.data() + (misfit == 1 ? size_bytes(view.dtype) : 0);
            for (int axis = view.rank - 2; axis >= 0; axis--) {
                view.strides[axis] = view.shape[axis + 1] * view.strides[axis + 1] + (misfit == 2 && axis == 0 ? 1 : 0) + (misfit == 3 && axis == view.rank - 2 ? 1 : 0);
            }
            std::vector<NamedTensor> tensors = on_gpu_of(arguments);
            tensors[index].tensor = view;
            const int launches = fake()->launches;
            const Status status = plan->run(tensors, workspace.span());
            EXPECT_TRUE(status.ok() || fake()->launches == launches) << tensors[index].name << " " << misfit << ": launched, then " << status.message();
            EXPECT_TRUE(status.ok() || status.code() == Code::invalid_argument) << status.message();
            refused += status.ok() ? 0 : 1;
        }
        std::vector<NamedTensor> tensors = on_gpu_of(arguments);
        tensors[index].tensor.data = workspace.data();
        const int launches = fake()->launches;
        EXPECT_TRUE(workspace.size() == 0 || whole.elements() == 0 || !plan->run(tensors, workspace.span()).ok()) << tensors[index].name << " in the workspace";
        EXPECT_TRUE(workspace.size() == 0 || whole.elements() == 0 || fake()->launches == launches);
    }
    RecordProperty("refused", refused);
}

TEST_P(FakeBounds, MemoryOfTheHostRunsOut) {
    ASSERT_TRUE(layer().make(options).ok());
    memory::walk(
        layer().name, [&] { return layer().make(options).status(); }, memory::Blocks::in_the_end);
    const Result<Plan> plan = layer().make(options);
    ASSERT_TRUE(plan.ok()) << plan.status().message();
    AnyArguments arguments(*plan);
    const std::vector<NamedTensor> tensors = on_gpu_of(arguments);
    const Bytes workspace(plan->workspace_bytes(), 0);
    memory::walk(
        "graph", [&] { return plan->graph(tensors, workspace.span()).status(); }, memory::Blocks::in_the_end);
    memory::walk(
        "run", [&] { return plan->run(tensors); }, memory::Blocks::in_the_end);
}

INSTANTIATE_TEST_SUITE_P(Layers, FakeBounds, testing::Range(size_t{0}, every_layer().size()), [](const auto &tested) { return every_layer()[tested.param].name; });

TEST(FakeBoundsBuffers, MemoryOfTheHostRunsOut) {
    if (fake() == nullptr) {
        GTEST_SKIP() << "libcuda.so.1 is another driver";
    }
    *fake() = {.allocated = fake()->allocated};
    ASSERT_TRUE(cuda::DeviceBuffer::allocate(kGpu, 100).ok());
    const int before = fake()->allocated;
    memory::walk("DeviceBuffer::allocate", [] { return cuda::DeviceBuffer::allocate(kGpu, 100).status(); });
    memory::walk("Stream::create", [] { return cuda::Stream::create(kGpu).status(); });
    EXPECT_EQ(fake()->allocated, before) << "memory of the device is lost";
}

}  // namespace
}  // namespace moa::tests
