#pragma once

#include "moa/tensor.h"

#include <array>
#include <cstdint>
#include <initializer_list>

namespace moa {

struct Axis {
    int64_t extent = 1;
    int64_t stride = 0;
};

// A kernel argument's memory, innermost axis first (the order of Halide's buffers; TensorView is outermost first).
struct View {
    void *data = nullptr;
    DType dtype = DType::f32;
    int rank = 0;
    std::array<Axis, kMaxRank> axes{};

    View() = default;
    View(void *memory, DType type, std::initializer_list<Axis> dims);

    static View dense(void *memory, DType type, std::initializer_list<int64_t> extents);
    static View of(const TensorView &tensor);

    int64_t extent(int axis) const {
        return axes[axis].extent;
    }
    // The same memory from element `offset` on.
    View at(int64_t offset) const;
    // Part [begin, begin + extent) of an axis.
    View crop(int axis, int64_t begin, int64_t extent) const;
    // Axis `axis` = extent * inner split in two: [.., inner, extent / inner, ..].
    View split(int axis, int64_t inner) const;
    // The same memory with another axis at position `axis`.
    View insert(int axis, Axis added) const;
    // Without an axis, at its position `index`.
    View pick(int axis, int64_t index) const;
    View swap(int first, int second) const;
};

}  // namespace moa
