#include "runtime/cuda/memory.h"
#include "runtime/plan_builder.h"

// Tensors on a GPU that lie where rows for copies of 16 bytes cannot take them: such rows see a copy in the workspace instead.
// Copies go at the speed of memory, where a row that takes any tensor is up to ten times slower than one for tensor cores, and
// wants weights in a format of its own.
namespace moa {

namespace {

constexpr uintptr_t kCopyBytes = 16;

bool lies_aligned(const TensorView &tensor) {
    bool aligned = reinterpret_cast<uintptr_t>(tensor.data) % kCopyBytes == 0;
    for (int axis = 0; axis + 1 < tensor.rank; axis++) {
        aligned = aligned && (tensor.shape[axis] == 1 || static_cast<size_t>(tensor.strides[axis]) * size_bytes(tensor.dtype) % kCopyBytes == 0);
    }
    return aligned;
}

}  // namespace

StandIns::StandIns(const PlanImpl &plan, std::span<TensorView> bound, std::span<std::byte> workspace)
    : plan_(plan) {
    for (const PlanImpl::StandIn &place : plan.stand_ins) {
        TensorView &tensor = bound[static_cast<size_t>(place.argument)];
        if (tensor.data == nullptr || tensor.elements() == 0 || lies_aligned(tensor) || count_ == kMost) {
            continue;
        }
        const std::vector<int64_t> &shape = plan.arguments[static_cast<size_t>(place.argument)].shape;
        Pair &pair = pairs_[count_++];
        pair = {place.argument, tensor, TensorView(workspace.data() + place.offset, tensor.dtype, std::span<const int64_t>(shape))};
        pair.stand_in.device = tensor.device;
        tensor = pair.stand_in;
    }
}

Status StandIns::copy(bool outputs, void *stream) const {
    for (const Pair &pair : std::span(pairs_).first(count_)) {
        if (plan_.arguments[static_cast<size_t>(pair.argument)].output != outputs) {
            continue;
        }
        const View given = View::of(pair.given), stand_in = View::of(pair.stand_in);
        if (Status status = cuda::copy_elements(*plan_.context, stream, outputs ? stand_in : given, outputs ? given : stand_in); !status) {
            return status;
        }
    }
    return {};
}

Status StandIns::copy_inputs(void *stream) const {
    return copy(false, stream);
}

Status StandIns::copy_outputs(void *stream) const {
    return copy(true, stream);
}

}  // namespace moa
