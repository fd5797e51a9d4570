#include "tests/test_device.h"
#include "workloads/random_layer.h"

#include <charconv>
#include <cstring>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <memory>
#include <new>
#include <string>
#include <vector>

// Whole layers of random kinds, shapes and options against double precision, on a workspace and outputs full of NaN. Some of their
// tensors begin and have rows anywhere. MOA_RANDOM_LAYERS says how many of each dtype (40), MOA_RANDOM_SEED the first one's seed.
namespace moa::tests {
namespace {

using workloads::RandomLayer;

uint64_t number(const char *name, uint64_t fallback) {
    const char *text = std::getenv(name);
    uint64_t value = fallback;
    if (text != nullptr) {
        std::from_chars(text, text + std::strlen(text), value);
    }
    return value;
}

struct Free {
    void operator()(std::byte *memory) const {
        ::operator delete[](memory, std::align_val_t{Plan::kWorkspaceAlignment});
    }
};
using Memory = std::unique_ptr<std::byte[], Free>;

Memory poisoned(size_t bytes) {
    Memory memory(new (std::align_val_t{Plan::kWorkspaceAlignment}) std::byte[bytes + 1]);
    std::memset(memory.get(), 0xff, bytes + 1);
    return memory;
}

// Copies of tensors that begin `shift` elements after a multiple of 64 bytes, and whose rows are `pad` elements apart.
class Shifted {
public:
    Shifted(std::span<const NamedTensor> tensors, int64_t shift, int64_t pad)
        : given_(tensors) {
        for (const NamedTensor &named : tensors) {
            NamedTensor copy = named;
            int64_t stride = 1;
            for (int axis = copy.tensor.rank - 1; axis >= 0; axis--) {
                copy.tensor.strides[axis] = stride;
                stride = stride * copy.tensor.shape[axis] + (axis == copy.tensor.rank - 1 ? pad : 0);
            }
            const size_t size = size_bytes(copy.tensor.dtype);
            memory_.push_back(poisoned(static_cast<size_t>(stride + shift) * size));
            copy.tensor.data = memory_.back().get() + static_cast<size_t>(shift) * size;
            move(named.tensor, copy.tensor);
            copies_.push_back(copy);
        }
    }
    std::span<const NamedTensor> tensors() const {
        return copies_;
    }
    void copy_back() const {
        for (size_t i = 0; i < copies_.size(); i++) {
            move(copies_[i].tensor, given_[i].tensor);
        }
    }

private:
    // Of the same shape, rows of which are dense.
    static void move(const TensorView &from, const TensorView &to) {
        const int64_t row = from.rank == 0 ? 1 : from.shape[from.rank - 1], rows = row == 0 ? 0 : from.elements() / row;
        for (int64_t index = 0; index < rows; index++) {
            int64_t rest = index, source = 0, target = 0;
            for (int axis = from.rank - 2; axis >= 0; axis--) {
                source += rest % from.shape[axis] * from.strides[axis];
                target += rest % from.shape[axis] * to.strides[axis];
                rest /= from.shape[axis];
            }
            const auto size = static_cast<int64_t>(size_bytes(from.dtype));
            std::memcpy(static_cast<std::byte *>(to.data) + target * size, static_cast<const std::byte *>(from.data) + source * size, static_cast<size_t>(row * size));
        }
    }

    std::span<const NamedTensor> given_;
    std::vector<Memory> memory_;
    std::vector<NamedTensor> copies_;
};

Status run_poisoned(const Plan &plan, std::span<const NamedTensor> tensors) {
    const size_t bytes = plan.workspace_bytes();
    const Memory workspace = poisoned(bytes);
    if (plan.device().type == DeviceType::cpu) {
        return plan.run(tensors, {workspace.get(), bytes});
    }
    std::vector<std::span<std::byte>> blocks{{workspace.get(), bytes}};
    for (const NamedTensor &named : tensors) {
        blocks.push_back(cuda::span_of(named.tensor));
    }
    const Result<cuda::Mirrors> mirrors = cuda::Mirrors::of(plan.device(), blocks);
    Status status = mirrors.ok() ? mirrors->upload_all() : mirrors.status();
    if (!status.ok()) {
        return status;
    }
    std::vector<NamedTensor> copies(tensors.begin(), tensors.end());
    for (size_t i = 0; i < copies.size(); i++) {
        copies[i].tensor.data = mirrors->list()[i + 1].copy;
        copies[i].tensor.device = plan.device();
    }
    status = plan.run(copies, {mirrors->list()[0].copy, bytes});
    for (size_t i = 0; i < copies.size() && status.ok(); i++) {
        status = mirrors->download(i + 1);
    }
    return status;
}

struct Numbers {
    DType dtype;
    Precision precision;
};

void run_layer(uint64_t seed, const Numbers &numbers) {
    RandomLayer::Bounds bounds;
    if (!on_gpu()) {
        bounds.widest_head = 600;
    }
    const Result<std::unique_ptr<RandomLayer>> made = RandomLayer::make(seed, numbers.dtype, bounds);
    ASSERT_TRUE(made.ok()) << made.status().message();
    RandomLayer &layer = **made;
    PlanOptions options;
    options.device = test_device();
    options.precision = numbers.precision;
    const Result<Plan> plan = layer.plan(options);
    ASSERT_TRUE(plan.ok()) << layer.text() << "\n"
                           << plan.status().message();
    for (const Plan::Step &step : plan->steps()) {
        EXPECT_EQ(step.row.find("__reference"), std::string::npos) << layer.text() << ": " << step.name << " takes " << step.row;
    }
    const std::span<const NamedTensor> tensors = layer.instance().tensors();
    layer.instance().poison();
    const auto shift = static_cast<int64_t>(seed % 3), pad = static_cast<int64_t>(seed % 4 == 1 ? 3 : 0);
    Status status;
    if (shift == 0 && pad == 0) {
        status = run_poisoned(*plan, tensors);
    } else {
        const Shifted shifted(tensors, shift, pad);
        status = run_poisoned(*plan, shifted.tensors());
        shifted.copy_back();
    }
    ASSERT_TRUE(status.ok()) << layer.text() << "\n"
                             << status.message();
    const Status right = layer.check(numbers.precision);
    EXPECT_TRUE(right.ok()) << layer.text() << "\n"
                            << right.message();
}

class RandomLayers : public testing::Test {
protected:
    static void run_all(const Numbers &numbers) {
        const std::string test = testing::UnitTest::GetInstance()->current_test_info()->name(), device = name_of(test_device());
        const uint64_t first = number("MOA_RANDOM_SEED", 1), count = number("MOA_RANDOM_LAYERS", 40);
        for (uint64_t seed = first; seed < first + count; seed++) {
            SCOPED_TRACE(fmt::format("again: MOA_TEST_DEVICE={} MOA_RANDOM_SEED={} MOA_RANDOM_LAYERS=1 layer_tests --gtest_filter=RandomLayers.{}", device, seed, test));
            run_layer(seed, numbers);
            if (HasFatalFailure()) {
                return;
            }
        }
    }
    static bool built(std::string_view dtype) {
        const auto rows = built_rows();
        return std::any_of(rows.begin(), rows.end(), [&](const Row &row) { return row.device == test_device().type && row.dtype == dtype; });
    }
};

TEST_F(RandomLayers, F32) {
    if (!built("f32")) {
        GTEST_SKIP() << "this build has no rows of f32 for " << name_of(test_device());
    }
    run_all({DType::f32, Precision::exact});
}

TEST_F(RandomLayers, Bf16) {
    if (!built("bf16")) {
        GTEST_SKIP() << "this build has no rows of bf16 for " << name_of(test_device());
    }
    run_all({DType::bf16, Precision::exact});
}

TEST_F(RandomLayers, F16) {
    if (!built("f16")) {
        GTEST_SKIP() << "this build has no rows of f16 for " << name_of(test_device());
    }
    run_all({DType::f16, Precision::exact});
}

TEST_F(RandomLayers, Tf32) {
    if (!built("tf32")) {
        GTEST_SKIP() << "this build has no rows of tf32 for " << name_of(test_device());
    }
    run_all({DType::f32, Precision::tf32});
}

}  // namespace
}  // namespace moa::tests
