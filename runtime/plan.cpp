#include "moa/plan.h"

#include "moa/huge_pages.h"
#include "runtime/cuda/memory.h"
#include "runtime/plan_builder.h"
#include "runtime/text.h"

#include <array>
#include <new>

namespace moa {

namespace {

constexpr size_t kMaxArguments = 24;

struct Span {
    const std::byte *begin = nullptr;
    const std::byte *end = nullptr;

    bool meets(const Span &other) const {
        return begin < other.end && other.begin < end;
    }
};

Span memory_of(const TensorView &tensor) {
    int64_t last = 0;
    for (int axis = 0; axis < tensor.rank; axis++) {
        if (tensor.shape[axis] == 0) {
            return {};
        }
        last += (tensor.shape[axis] - 1) * tensor.strides[axis];
    }
    const auto *begin = static_cast<const std::byte *>(tensor.data);
    return {begin, begin + static_cast<size_t>(last + 1) * size_bytes(tensor.dtype)};
}

bool is_mask(DType dtype) {
    return dtype == DType::boolean || dtype == DType::u8;
}

Status check_layout(const Plan::Argument &wanted, const TensorView &given) {
    int64_t span = 0;
    for (int axis = 0; axis < given.rank; axis++) {
        const int64_t stride = given.strides[axis];
        if (stride < 0) {
            return invalid("{}: stride {} of axis {} is negative", wanted.name, stride, axis);
        }
        if (wanted.output && stride == 0 && given.shape[axis] > 1) {
            return invalid("{}: an output's axis {} of size {} has stride 0", wanted.name, axis, given.shape[axis]);
        }
        if (given.shape[axis] > 1) {
            const int64_t limit = INT64_C(0x7fffffff);
            if (stride > limit || span + (given.shape[axis] - 1) * stride > limit) {
                return invalid("{}: {} spans more than 2^31 elements, which no kernel indexes", wanted.name, given.describe());
            }
            span += (given.shape[axis] - 1) * stride;
        }
    }
    const int inner = given.rank - 1;
    if (given.shape[inner] > 1 && given.strides[inner] != 1 && !(given.strides[inner] == 0 && !wanted.output && is_mask(wanted.dtype))) {
        return invalid("{}: the innermost stride is {}, must be 1", wanted.name, given.strides[inner]);
    }
    if (reinterpret_cast<uintptr_t>(given.data) % size_bytes(given.dtype) != 0) {
        return invalid("{}: its address is not aligned to {} bytes", wanted.name, size_bytes(given.dtype));
    }
    return {};
}

Status check_argument(const Device &device, const Plan::Argument &wanted, const TensorView &given) {
    const bool same_dtype = given.dtype == wanted.dtype || (is_mask(given.dtype) && is_mask(wanted.dtype));
    bool same_shape = given.rank == static_cast<int>(wanted.shape.size());
    for (int axis = 0; same_shape && axis < given.rank; axis++) {
        same_shape = given.shape[axis] == wanted.shape[axis];
    }
    if (!same_dtype || !same_shape || given.device != device) {
        return invalid("{}: the plan wants {} {} on {}, not {}", wanted.name, name_of(wanted.dtype), text_of(wanted.shape),
                       name_of(device), given.describe());
    }
    if (given.elements() == 0) {
        return {};
    }
    if (given.data == nullptr) {
        return invalid("{}: no memory (null data)", wanted.name);
    }
    return check_layout(wanted, given);
}

Status check_overlap(const std::vector<Plan::Argument> &arguments, const std::array<TensorView, kMaxArguments> &bound) {
    for (size_t i = 0; i < arguments.size(); i++) {
        for (size_t j = 0; j < arguments.size() && arguments[i].output; j++) {
            if (i != j && bound[i].data != nullptr && bound[j].data != nullptr && memory_of(bound[i]).meets(memory_of(bound[j]))) {
                return invalid("output {} overlaps {}", arguments[i].name, arguments[j].name);
            }
        }
    }
    return {};
}

Status bind(const PlanImpl &plan, std::span<const NamedTensor> tensors, std::array<TensorView, kMaxArguments> &bound) {
    std::array<bool, kMaxArguments> seen{};
    for (const NamedTensor &given : tensors) {
        size_t index = 0;
        while (index < plan.arguments.size() && plan.arguments[index].name != given.name) {
            index++;
        }
        if (index == plan.arguments.size()) {
            return invalid("the plan has no argument named {}", given.name);
        }
        if (seen[index]) {
            return invalid("{} is given twice", given.name);
        }
        seen[index] = true;
        if (Status status = check_argument(plan.device, plan.arguments[index], given.tensor); !status) {
            return status;
        }
        bound[index] = given.tensor;
    }
    for (size_t index = 0; index < plan.arguments.size(); index++) {
        if (!seen[index] && !plan.arguments[index].optional) {
            return invalid("{} is missing: the plan wants {} {}", plan.arguments[index].name,
                           name_of(plan.arguments[index].dtype), text_of(plan.arguments[index].shape));
        }
    }
    return check_overlap(plan.arguments, bound);
}

}  // namespace

Plan::Plan(std::shared_ptr<const PlanImpl> impl)
    : impl_(std::move(impl)) {
}

const Device &Plan::device() const {
    return impl_->device;
}

size_t Plan::workspace_bytes() const {
    return impl_->temporary_bytes + impl_->scratch_bytes;
}

const std::vector<Plan::Argument> &Plan::arguments() const {
    return impl_->arguments;
}

const std::vector<Plan::Step> &Plan::steps() const {
    return impl_->steps;
}

Status Plan::run(std::span<const NamedTensor> tensors, std::span<std::byte> workspace, void *stream) const {
    return run(tensors, workspace, Observer(), stream);
}

namespace {

using Bound = std::array<TensorView, kMaxArguments>;

Status check_run(const PlanImpl &plan, std::span<const NamedTensor> tensors, std::span<std::byte> workspace, Bound &bound) {
    if (plan.arguments.size() > kMaxArguments) {
        return {Code::internal, "a plan with too many arguments"};
    }
    if (Status status = bind(plan, tensors, bound); !status) {
        return status;
    }
    const size_t wanted = plan.temporary_bytes + plan.scratch_bytes;
    if (workspace.size() < wanted) {
        return invalid("the workspace has {} bytes, the plan needs {}", workspace.size(), wanted);
    }
    if (reinterpret_cast<uintptr_t>(workspace.data()) % Plan::kWorkspaceAlignment != 0) {
        return invalid("the workspace is not aligned to {} bytes", Plan::kWorkspaceAlignment);
    }
    return {};
}

// All steps in order, between calls of begin(step) and end(step).
template<class Begin, class End>
Status run_steps(const PlanImpl &plan, const Frame &frame, Begin begin, End end) {
    for (size_t step = 0; step < plan.actions.size(); step++) {
        Status status = begin(step);
        if (plan.context == nullptr) {
            frame.run().set_threads(plan.steps[step].threads);
        }
        status = status.ok() ? plan.actions[step](frame) : status;
        if (!status.ok()) {
            return {status.code(), text("{}: {}", plan.steps[step].name, status.message())};
        }
        if (status = end(step); !status.ok()) {
            return status;
        }
    }
    return {};
}

std::span<std::byte> scratch_of(const PlanImpl &plan, size_t step, std::span<std::byte> workspace) {
    return workspace.subspan(plan.temporary_bytes + plan.uses[step].scratch_offset, plan.uses[step].scratch_bytes);
}

}  // namespace

Status Plan::run(std::span<const NamedTensor> tensors, std::span<std::byte> workspace, const Observer &observer, void *stream) const {
    const PlanImpl &plan = *impl_;
    Bound bound{};
    if (Status status = check_run(plan, tensors, workspace, bound); !status) {
        return status;
    }
    const auto end = [&](size_t step) {
        if (observer) {
            observer(step);
        }
        return Status();
    };
    if (plan.context == nullptr) {
        Run run(plan.threads, workspace.subspan(plan.temporary_bytes, plan.scratch_bytes));
        return run_steps(
            plan, Frame(plan, &run, workspace.data(), bound.data(), nullptr), [](size_t) { return Status(); }, end);
    }
    const cuda::Current current(*plan.context);
    if (!current.status().ok()) {
        return current.status();
    }
    const StandIns stand_ins(plan, bound, workspace);
    Run run(*plan.context, stream, {});
    const auto begin = [&](size_t step) {
        run.move_to(stream, scratch_of(plan, step, workspace));
        return Status();
    };
    Status status = stand_ins.copy_inputs(stream);
    status = status.ok() ? run_steps(plan, Frame(plan, &run, workspace.data(), bound.data(), nullptr), begin, end) : status;
    return status.ok() ? stand_ins.copy_outputs(stream) : status;
}

Status run_on_streams(const PlanImpl &plan, std::span<const NamedTensor> tensors, std::span<std::byte> workspace, StepStreams &streams) {
    Bound bound{};
    if (Status status = check_run(plan, tensors, workspace, bound); !status) {
        return status;
    }
    const StandIns stand_ins(plan, bound, workspace);
    if (stand_ins.any()) {
        streams.one_after_another();
    }
    const auto copied = [&](bool outputs) {
        const Result<void *> stream = stand_ins.any() ? streams.begin(0) : Result<void *>(nullptr);
        return !stream.ok() ? stream.status() : (outputs ? stand_ins.copy_outputs(*stream) : stand_ins.copy_inputs(*stream));
    };
    Run run(*plan.context, nullptr, {});
    const auto begin = [&](size_t step) {
        const Result<void *> stream = streams.begin(step);
        if (stream.ok()) {
            run.move_to(*stream, scratch_of(plan, step, workspace));
        }
        return stream.status();
    };
    Status status = copied(false);
    if (status.ok()) {
        status = run_steps(plan, Frame(plan, &run, workspace.data(), bound.data(), nullptr), begin, [&](size_t step) { return streams.end(step); });
    }
    return status.ok() ? copied(true) : status;
}

namespace {

Status run_and_wait(const Plan &plan, const std::shared_ptr<const cuda::Context> &context, std::span<const NamedTensor> tensors) {
    const Result<std::shared_ptr<cuda::DeviceMemory>> memory = cuda::DeviceMemory::allocate(context, plan.workspace_bytes());
    if (!memory.ok()) {
        return memory.status();
    }
    Status status = plan.run(tensors, {(*memory)->data(), (*memory)->size()});
    const cuda::Current current(*context);
    const Status ended = cuda::status_of(context->driver(), context->driver().stream_synchronize(nullptr), "cuStreamSynchronize");
    return status.ok() ? ended : status;
}

}  // namespace

Status Plan::run(std::span<const NamedTensor> tensors) const {
    if (impl_->context != nullptr) {
        return run_and_wait(*this, impl_->context, tensors);
    }
    const size_t bytes = workspace_bytes();
    void *memory = ::operator new (bytes, std::align_val_t{kWorkspaceAlignment}, std::nothrow);
    if (memory == nullptr) {
        return {Code::out_of_memory, text("no memory for a workspace of {} bytes", bytes)};
    }
    const std::span<std::byte> workspace(static_cast<std::byte *>(memory), bytes);
    prefer_huge_pages(workspace);
    Status status = run(tensors, workspace);
    ::operator delete (memory, std::align_val_t{kWorkspaceAlignment});
    return status;
}

}  // namespace moa
