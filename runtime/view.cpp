#include "runtime/view.h"

#include <cassert>
#include <cstddef>
#include <utility>

namespace moa {

View::View(void *memory, DType type, std::initializer_list<Axis> dims)
    : data(memory), dtype(type) {
    for (const Axis &axis : dims) {
        axes[rank++] = axis;
    }
}

View View::dense(void *memory, DType type, std::initializer_list<int64_t> extents) {
    View view(memory, type, {});
    int64_t stride = 1;
    for (const int64_t extent : extents) {
        view.axes[view.rank++] = {extent, stride};
        stride *= extent;
    }
    return view;
}

View View::of(const TensorView &tensor) {
    View view(tensor.data, tensor.dtype, {});
    for (int axis = tensor.rank - 1; axis >= 0; axis--) {
        view.axes[view.rank++] = {tensor.shape[axis], tensor.strides[axis]};
    }
    return view;
}

View View::at(int64_t offset) const {
    View view = *this;
    if (data != nullptr) {
        view.data = static_cast<std::byte *>(data) + offset * static_cast<int64_t>(size_bytes(dtype));
    }
    return view;
}

View View::crop(int axis, int64_t begin, int64_t extent) const {
    assert(axis < rank && begin >= 0 && begin + extent <= axes[axis].extent);
    View view = at(begin * axes[axis].stride);
    view.axes[axis].extent = extent;
    return view;
}

View View::split(int axis, int64_t inner) const {
    assert(axis < rank && axes[axis].extent % inner == 0);
    View view = insert(axis + 1, {axes[axis].extent / inner, axes[axis].stride * inner});
    view.axes[axis].extent = inner;
    return view;
}

View View::insert(int axis, Axis added) const {
    assert(rank < kMaxRank && axis <= rank);
    View view = *this;
    for (int other = rank; other > axis; other--) {
        view.axes[other] = view.axes[other - 1];
    }
    view.axes[axis] = added;
    view.rank++;
    return view;
}

View View::pick(int axis, int64_t index) const {
    assert(axis < rank);
    View view = at(index * axes[axis].stride);
    for (int other = axis; other + 1 < rank; other++) {
        view.axes[other] = view.axes[other + 1];
    }
    view.rank--;
    view.axes[view.rank] = {};
    return view;
}

View View::swap(int first, int second) const {
    assert(first < rank && second < rank);
    View view = *this;
    std::swap(view.axes[first], view.axes[second]);
    return view;
}

}  // namespace moa
