#include "runtime/caught.h"
#include "runtime/cuda/memory.h"
#include "runtime/plan_builder.h"
#include "runtime/text.h"

#include <algorithm>
#include <limits>
#include <numeric>

// The tensors of a plan while it is made. Every shape is checked before anything is allocated for it.
namespace moa {

namespace {

View dense_view(void *data, DType dtype, const std::vector<int64_t> &shape) {
    return View::of(TensorView(data, dtype, std::span<const int64_t>(shape)));
}

size_t bytes_of(DType dtype, const std::vector<int64_t> &shape) {
    return static_cast<size_t>(TensorView(nullptr, dtype, std::span<const int64_t>(shape)).elements()) * size_bytes(dtype);
}

}  // namespace

bool PlanBuilder::fits(std::string_view name, const std::vector<int64_t> &shape) {
    constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
    int64_t elements = 1;
    for (const int64_t extent : shape) {
        if (extent < 0) {
            fail(invalid("{} has a negative size: {}", name, text_of(shape)));
            return false;
        }
        const int64_t factor = std::max<int64_t>(extent, 1);
        elements = factor > kMost / elements ? kMost + 1 : elements * factor;
        if (elements > kMost) {
            fail(invalid("{} {} has more than 2^31 - 1 elements, which no kernel indexes", name, text_of(shape)));
            return false;
        }
    }
    return true;
}

Handle PlanBuilder::add(const PlanImpl::Tensor &tensor) {
    plan_->tensors.push_back(tensor);
    return Handle{static_cast<int>(plan_->tensors.size()) - 1};
}

Handle PlanBuilder::input(std::string name, DType dtype, std::vector<int64_t> shape) {
    const Handle handle = output(std::move(name), dtype, std::move(shape));
    if (handle) {
        plan_->arguments.back().output = false;
    }
    return handle;
}

Handle PlanBuilder::output(std::string name, DType dtype, std::vector<int64_t> shape, bool optional) {
    if (!ok() || !fits(name, shape)) {
        return {};
    }
    if (plan_->arguments.size() == PlanImpl::kMaxArguments) {
        fail(Status(Code::internal, "a plan with too many arguments"));
        return {};
    }
    PlanImpl::Tensor tensor(PlanImpl::Tensor::Kind::argument);
    tensor.argument = static_cast<int>(plan_->arguments.size());
    tensor.view = dense_view(nullptr, dtype == DType::boolean ? DType::u8 : dtype, shape);
    plan_->arguments.push_back({std::move(name), dtype, std::move(shape), true, optional});
    return add(tensor);
}

Handle PlanBuilder::temporary(DType dtype, std::vector<int64_t> shape) {
    if (!ok() || !fits("an intermediate of shape", shape)) {
        return {};
    }
    PlanImpl::Tensor tensor(PlanImpl::Tensor::Kind::temporary);
    tensor.view = dense_view(nullptr, dtype, shape);
    tensor.bytes = rounded(bytes_of(dtype, shape));
    return add(tensor);
}

Handle PlanBuilder::part_of(Handle temporary, const std::function<void(PlanImpl::Tensor &)> &change) {
    if (!ok()) {
        return {};
    }
    PlanImpl::Tensor tensor = plan_->tensors[temporary.index];
    tensor.same_as = tensor.same_as >= 0 ? tensor.same_as : temporary.index;
    tensor.bytes = 0;
    change(tensor);
    return add(tensor);
}

Handle PlanBuilder::reshape(Handle temporary, const std::vector<int64_t> &shape) {
    return part_of(temporary, [&](PlanImpl::Tensor &tensor) { tensor.view = dense_view(nullptr, tensor.view.dtype, shape); });
}

Handle PlanBuilder::insert(Handle temporary, int axis, int64_t extent) {
    return part_of(temporary, [&](PlanImpl::Tensor &tensor) { tensor.view = tensor.view.insert(axis, {extent, 0}); });
}

Handle PlanBuilder::crop(Handle temporary, int axis, int64_t begin, int64_t extent) {
    return part_of(temporary, [&](PlanImpl::Tensor &tensor) {
        tensor.part += static_cast<size_t>(begin * tensor.view.axes[axis].stride) * size_bytes(tensor.view.dtype);
        tensor.view = tensor.view.crop(axis, begin, extent);
    });
}

Handle PlanBuilder::constant(std::shared_ptr<const std::vector<float>> values, const std::vector<int64_t> &shape) {
    const void *data = values->data();
    return constant(std::move(values), data, DType::f32, shape);
}

Handle PlanBuilder::table(std::string_view name, const std::vector<int64_t> &shape, const std::function<std::vector<float>()> &make) {
    if (!ok() || !fits(name, shape)) {
        return {};
    }
    return constant(with_memory(bytes_of(DType::f32, shape), "a table of the plan:", name, [&] { return std::make_shared<const std::vector<float>>(make()); }), shape);
}

Handle PlanBuilder::ramp(const std::vector<int64_t> &shape) {
    if (!ok() || !fits("a list of rows", shape)) {
        return {};
    }
    const size_t bytes = bytes_of(DType::i32, shape);
    const auto values = with_memory(bytes, "a list of rows", "", [&] { return std::make_shared<std::vector<int32_t>>(bytes / sizeof(int32_t)); });
    std::iota(values->begin(), values->end(), 0);
    return constant(values, values->data(), DType::i32, shape);
}

Handle PlanBuilder::constant(std::shared_ptr<const void> owner, const void *values, DType dtype, const std::vector<int64_t> &shape) {
    if (!ok() || !fits("a constant of shape", shape)) {
        return {};
    }
    PlanImpl::Tensor tensor(PlanImpl::Tensor::Kind::constant);
    tensor.view = dense_view(const_cast<void *>(values), dtype, shape);
    if (!on_gpu()) {
        keep(std::move(owner));
        return add(tensor);
    }
    Result<std::shared_ptr<const cuda::DeviceMemory>> memory = cuda::shared_upload(plan_->context, owner, values, bytes_of(dtype, shape));
    if (!memory.ok()) {
        fail(memory.status());
        return {};
    }
    tensor.view.data = (*memory)->data();
    keep(std::move(*memory));
    return add(tensor);
}

}  // namespace moa
