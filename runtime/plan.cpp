#include "moa/plan.h"

#include "moa/huge_pages.h"
#include "runtime/arguments.h"
#include "runtime/caught.h"
#include "runtime/cuda/memory.h"
#include "runtime/plan_builder.h"
#include "runtime/text.h"

#include <algorithm>
#include <array>
#include <new>

namespace moa {

namespace {

constexpr size_t kMaxArguments = PlanImpl::kMaxArguments;

Status check_argument(const Device &device, const Plan::Argument &wanted, const TensorView &given) {
    Status status = check_kind({"the plan", wanted.name, {&wanted.dtype, 1}, wanted.shape, device}, given);
    status = status.ok() ? check_memory(wanted.name, given) : status;
    return status.ok() ? check_strides(wanted.name, given, wanted.output) : status;
}

using Bound = std::array<TensorView, kMaxArguments>;

Status check_overlap(const std::vector<Plan::Argument> &arguments, const Bound &bound, const TensorView &workspace) {
    for (size_t i = 0; i < arguments.size(); i++) {
        if (bound[i].data != nullptr && may_overlap(bound[i], workspace)) {
            return invalid("{} overlaps the workspace", arguments[i].name);
        }
        for (size_t j = 0; j < arguments.size() && arguments[i].output; j++) {
            if (i != j && bound[i].data != nullptr && bound[j].data != nullptr && may_overlap(bound[i], bound[j])) {
                return invalid("output {} overlaps {}", arguments[i].name, arguments[j].name);
            }
        }
    }
    return {};
}

Status bind(const PlanImpl &plan, std::span<const NamedTensor> tensors, Bound &bound) {
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
        bound[index] = with_plain_strides(given.tensor);
    }
    for (size_t index = 0; index < plan.arguments.size(); index++) {
        if (!seen[index] && !plan.arguments[index].optional) {
            return invalid("{} is missing: the plan wants {} {}", plan.arguments[index].name,
                           name_of(plan.arguments[index].dtype), text_of(plan.arguments[index].shape));
        }
    }
    return {};
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

// Whether every tensor lies as while the plan was made, so that its steps have been checked already.
bool as_planned(const Bound &bound, size_t count) {
    constexpr uintptr_t kVector = 16;  // the longest alignment that a row asks for
    return std::all_of(bound.begin(), bound.begin() + static_cast<std::ptrdiff_t>(count),
                       [](const TensorView &tensor) { return tensor.data == nullptr || (tensor.contiguous() && reinterpret_cast<uintptr_t>(tensor.data) % kVector == 0); });
}

// What steps find wrong, by a rehearsal: values on the host, and tensors that no kernel takes as they lie. `bound` is what they will see.
Status check_steps(const PlanImpl &plan, std::span<std::byte> workspace, const Bound &bound) {
    const bool known = as_planned(bound, plan.arguments.size());
    if (known && plan.checks.empty()) {
        return {};
    }
    Run run = Run::rehearsal(plan.description);
    const Frame frame(plan, &run, workspace.data(), bound.data(), nullptr);
    for (const PlanImpl::Action &check : plan.checks) {
        if (Status status = check(frame); !status) {
            return status;
        }
    }
    for (size_t step = 0; step < plan.actions.size() && !known; step++) {
        const bool on_host = plan.steps[step].row.empty();
        if (Status status = on_host ? Status() : plan.actions[step](frame); !status) {
            return {status.code(), text("{}: {}", plan.steps[step].name, status.message())};
        }
    }
    return {};
}

// What is wrong with the arguments and the workspace as such. With check_steps() it is all that can be wrong with a run before its first
// write and its first launch.
Status check_run(const PlanImpl &plan, std::span<const NamedTensor> tensors, std::span<std::byte> workspace, Bound &bound) {
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
    return check_overlap(plan.arguments, bound, TensorView(workspace.data(), DType::u8, {static_cast<int64_t>(workspace.size())}, plan.device));
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

Status Plan::run(std::span<const NamedTensor> tensors, std::span<std::byte> workspace, const Observer &observer, void *stream) const try {
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
        if (Status status = check_steps(plan, workspace, bound); !status) {
            return status;
        }
        Run run(plan.threads, workspace.subspan(plan.temporary_bytes, plan.scratch_bytes));
        return run_steps(
            plan, Frame(plan, &run, workspace.data(), bound.data(), nullptr), [](size_t) { return Status(); }, end);
    }
    const cuda::Current current(*plan.context);
    if (!current.status().ok()) {
        return current.status();
    }
    const StandIns stand_ins(plan, bound, workspace);
    if (Status status = check_steps(plan, workspace, bound); !status) {
        return status;
    }
    Run run(*plan.context, stream, {});
    const auto begin = [&](size_t step) {
        run.move_to(stream, scratch_of(plan, step, workspace));
        return Status();
    };
    Status status = stand_ins.copy_inputs(stream);
    status = status.ok() ? run_steps(plan, Frame(plan, &run, workspace.data(), bound.data(), nullptr), begin, end) : status;
    return status.ok() ? stand_ins.copy_outputs(stream) : status;
} catch (...) {
    return caught("Plan::run");
}

Status run_on_streams(const PlanImpl &plan, std::span<const NamedTensor> tensors, std::span<std::byte> workspace, StepStreams &streams) {
    Bound bound{};
    if (Status status = check_run(plan, tensors, workspace, bound); !status) {
        return status;
    }
    const StandIns stand_ins(plan, bound, workspace);
    if (Status status = check_steps(plan, workspace, bound); !status) {
        return status;
    }
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

Status Plan::run(std::span<const NamedTensor> tensors) const try {
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
} catch (...) {
    return caught("Plan::run");
}

}  // namespace moa
