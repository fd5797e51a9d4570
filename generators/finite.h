#pragma once

#include "Halide.h"
#include "generators/codegen/cuda/markers.h"

#include <cmath>
#include <cstdint>
#include <limits>

// NaN and infinity as bits: Halide compiles for finite values, so that comparisons with others may be decided either way.
namespace moa {

inline Halide::Expr bits_of_f32(const Halide::Expr &value) {
    return Halide::reinterpret<uint32_t>(value);
}
inline Halide::Expr magnitude_bits(const Halide::Expr &value) {
    return bits_of_f32(value) & Halide::cast<uint32_t>(0x7fffffff);
}
inline Halide::Expr is_nan_bits(const Halide::Expr &value) {
    return magnitude_bits(value) > Halide::cast<uint32_t>(0x7f800000);
}
inline Halide::Expr is_finite_bits(const Halide::Expr &value) {
    return magnitude_bits(value) < Halide::cast<uint32_t>(0x7f800000);
}
inline Halide::Expr same_bits(const Halide::Expr &value, float constant) {
    return bits_of_f32(value) == bits_of_f32(constant);
}
// select() that does not look at the values: of numbers that must not be finite, LLVM may take either.
inline Halide::Expr select_bits(const Halide::Expr &condition, const Halide::Expr &value, const Halide::Expr &otherwise) {
    return Halide::reinterpret<float>(Halide::select(condition, bits_of_f32(value), bits_of_f32(otherwise)));
}
// The value that a Func begins with which is computed only if a condition holds, and read only then. For CUDA.
inline Halide::Expr only_if(const Halide::Expr &condition, const Halide::Expr &value) {
    return Halide::Internal::Call::make(value.type(), codegen::cuda::marker::kOnlyIf, {condition, value}, Halide::Internal::Call::PureExtern);
}
inline Halide::Expr nan_f32() {
    return Halide::reinterpret<float>(Halide::cast<uint32_t>(0x7fc00000));
}

// Halide's exp() makes numbers of NaN and infinities.
inline Halide::Expr sigmoid(const Halide::Expr &value) {
    using namespace Halide;
    const Expr of_infinity = select(same_bits(value, std::numeric_limits<float>::infinity()), 1.f, 0.f);
    return select_bits(is_finite_bits(value), 1.f / (1.f + exp(-value)), select_bits(is_nan_bits(value), value, of_infinity));
}

// Squares that overflow are an infinity, of which another is subtracted where distances from a mean are found in one pass.
inline Halide::Expr of_overflow(const Halide::Expr &squares, const Halide::Expr &overflown) {
    return select_bits(is_nan_bits(squares) && overflown, std::numeric_limits<float>::infinity(), squares);
}

// The smallest numbers that f32 has, for what is hidden: no score that is a number is smaller, and only the very last two of 2^32
// are as small.
constexpr float kLowest = std::numeric_limits<float>::lowest();
inline float next_to_lowest() {
    return std::nextafter(kLowest, 0.f);
}

// -stabiliser * scale, for exponents value * scale + shift of which the largest must not be far below 0: where rounding alone would
// take it there, a little more.
inline Halide::Expr shift_of(const Halide::Expr &stabiliser, const Halide::Expr &scale) {
    using namespace Halide;
    const Expr shift = -stabiliser * scale;
    return shift + select(abs(shift) > 0x1p30f, abs(shift) * 0x1p-22f, 0.f);
}

}  // namespace moa
