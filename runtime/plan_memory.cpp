#include "runtime/plan_builder.h"

#include <algorithm>

// Where a plan's steps keep what they work on, and which of them may run side by side for it.
namespace moa {

namespace {

// Up to here, what a GPU's steps work on shares no memory, so that they may run side by side.
constexpr size_t kRoomForSteps = size_t{1} << 30;

struct Taken {
    size_t offset, bytes;
};

size_t first_fit(size_t bytes, std::vector<Taken> taken) {
    std::sort(taken.begin(), taken.end(), [](const Taken &a, const Taken &b) { return a.offset < b.offset; });
    size_t offset = 0;
    for (const Taken &other : taken) {
        if (offset + bytes <= other.offset) {
            break;
        }
        offset = std::max(offset, other.offset + other.bytes);
    }
    return offset;
}

int64_t elements_of(const View &view) {
    int64_t count = 1;
    for (int axis = 0; axis < view.rank; axis++) {
        count *= view.extent(axis);
    }
    return count;
}

}  // namespace

// First fit, large ones first: temporaries whose lifetimes do not meet share memory.
void PlanBuilder::place_temporaries() {
    std::vector<PlanImpl::Tensor *> placed, waiting;
    size_t all = 0;
    for (PlanImpl::Tensor &tensor : plan_->tensors) {
        if (tensor.kind == PlanImpl::Tensor::Kind::temporary && tensor.same_as < 0 && tensor.first_use >= 0) {
            waiting.push_back(&tensor);
            all += tensor.bytes;
        }
    }
    const bool apart = on_gpu() && all <= kRoomForSteps;
    std::stable_sort(waiting.begin(), waiting.end(), [](const auto *a, const auto *b) { return a->bytes > b->bytes; });
    for (PlanImpl::Tensor *tensor : waiting) {
        std::vector<Taken> taken;
        for (const PlanImpl::Tensor *other : placed) {
            if (apart || (other->first_use <= tensor->last_use && tensor->first_use <= other->last_use)) {
                taken.push_back({other->offset, other->bytes});
            }
        }
        tensor->offset = first_fit(tensor->bytes, std::move(taken));
        placed.push_back(tensor);
        plan_->temporary_bytes = std::max(plan_->temporary_bytes, tensor->offset + tensor->bytes);
    }
}

// Among the temporaries, where these are not in use yet or no longer: an input is copied before the first step, an output after
// the last.
void PlanBuilder::place_stand_ins() {
    std::vector<PlanImpl::StandIn> &all = plan_->stand_ins;
    for (size_t index = 0; index < all.size(); index++) {
        PlanImpl::StandIn &one = all[index];
        const Plan::Argument &argument = plan_->arguments[static_cast<size_t>(one.argument)];
        std::vector<Taken> taken;
        for (const PlanImpl::Tensor &tensor : plan_->tensors) {
            if (tensor.kind == PlanImpl::Tensor::Kind::argument && tensor.argument == one.argument) {
                one.bytes = rounded(static_cast<size_t>(elements_of(tensor.view)) * size_bytes(argument.dtype));
                one.first_use = argument.output ? tensor.first_use : 0;
                one.last_use = argument.output ? static_cast<int>(plan_->actions.size()) - 1 : tensor.last_use;
            }
        }
        const auto meets = [&](int first_use, int last_use) { return first_use <= one.last_use && one.first_use <= last_use; };
        for (const PlanImpl::Tensor &tensor : plan_->tensors) {
            if (tensor.kind == PlanImpl::Tensor::Kind::temporary && tensor.same_as < 0 && tensor.first_use >= 0 && meets(tensor.first_use, tensor.last_use)) {
                taken.push_back({tensor.offset, tensor.bytes});
            }
        }
        for (const PlanImpl::StandIn &other : std::span(all).first(index)) {
            if (meets(other.first_use, other.last_use)) {
                taken.push_back({other.offset, other.bytes});
            }
        }
        one.offset = first_fit(one.bytes, std::move(taken));
        plan_->temporary_bytes = std::max(plan_->temporary_bytes, one.offset + one.bytes);
    }
}

void PlanBuilder::place_scratch() {
    size_t sum = 0, most = 0;
    for (const PlanImpl::Use &use : plan_->uses) {
        sum += use.scratch_bytes;
        most = std::max(most, use.scratch_bytes);
    }
    const bool apart = sum <= kRoomForSteps;
    plan_->scratch_bytes = apart ? sum : most;
    size_t offset = 0;
    for (PlanImpl::Use &use : plan_->uses) {
        use.scratch_offset = offset;
        offset += apart ? use.scratch_bytes : 0;
    }
}

namespace {

bool meet(size_t a, size_t a_bytes, size_t b, size_t b_bytes) {
    return a < b + b_bytes && b < a + a_bytes;
}

// Whether two steps may not run at once. Who writes is not known of temporaries, so that two readers count, too.
bool conflict(const PlanImpl &plan, const PlanImpl::Use &one, const PlanImpl::Use &two) {
    using Kind = PlanImpl::Tensor::Kind;
    for (const int a : one.tensors) {
        for (const int b : two.tensors) {
            const PlanImpl::Tensor &s = plan.tensors[a], &t = plan.tensors[b];
            if (a == b && s.kind == Kind::argument && plan.arguments[s.argument].output) {
                return true;
            }
            if (s.kind == Kind::temporary && t.kind == Kind::temporary && meet(s.offset, s.bytes, t.offset, t.bytes)) {
                return true;
            }
        }
    }
    return meet(one.scratch_offset, one.scratch_bytes, two.scratch_offset, two.scratch_bytes);
}

}  // namespace

// A step waits for the latest steps that it conflicts with, and not for those that these wait for already.
void PlanBuilder::order_steps() {
    const size_t count = plan_->uses.size();
    std::vector<std::vector<bool>> before(count, std::vector<bool>(count));
    for (size_t step = 0; step < count; step++) {
        for (size_t earlier = step; earlier-- > 0;) {
            if (!before[step][earlier] && conflict(*plan_, plan_->uses[earlier], plan_->uses[step])) {
                plan_->uses[step].after.push_back(static_cast<int>(earlier));
                before[step][earlier] = true;
                for (size_t first = 0; first < earlier; first++) {
                    before[step][first] = before[step][first] || before[earlier][first];
                }
            }
        }
    }
}

}  // namespace moa
