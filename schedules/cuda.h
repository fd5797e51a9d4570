#pragma once

#include "generators/nvptx.h"

// What schedules for CUDA share.
namespace moa::cuda {

inline constexpr int kWarp = 32;
inline constexpr int kVector = 4;  // elements of a vector access: 16 bytes of f32, 8 of bf16, the widest that Halide makes

// Views begin at 0; it makes indices shorter, and their alignment known.
template<class... Tensors>
void begin_at_zero(Tensors &&...tensors) {
    const auto all_axes = [](auto &&tensor) {
        for (int axis = 0; axis < tensor.dimensions(); axis++) {
            tensor.dim(axis).set_min(0);
        }
    };
    (all_axes(tensors), ...);
}

// Whether every row of the tensor begins where a vector access may. For specialisations: it is
// decided for every launch, so that a row takes tensors of any alignment. What Halide may assume of the address it is told
// as an alignment of the host's, which is absent and is checked in vain.
inline Halide::Expr rows_begin_aligned(Halide::Parameter tensor) {
    using namespace Halide;
    const int bytes = kVector * tensor.type().bytes();
    tensor.set_host_alignment(bytes);
    Expr all = device_address(tensor) % Internal::make_const(UInt(64), bytes) == Internal::make_zero(UInt(64));
    for (int axis = 1; axis < tensor.dimensions(); axis++) {
        const Expr stride = Internal::Variable::make(Int(32), tensor.name() + ".stride." + std::to_string(axis), tensor);
        all = all && stride % kVector == 0;
    }
    return all;
}

}  // namespace moa::cuda
