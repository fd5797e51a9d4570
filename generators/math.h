#pragma once

#include "Halide.h"

// Expressions that several algorithms share. Halide compiles for finite values: NaN is recognised by its bits.
namespace moa {

// Of a vector's sum of squares; the smallest norm keeps a row of zeros finite.
inline Halide::Expr inverse_norm(const Halide::Expr &squares) {
    return 1.f / max(sqrt(squares), 1e-12f);
}

// f32 to bf16, to nearest, ties to even. Halide emulates cast<bfloat16_t> at several times the cost.
inline Halide::Expr round_bf16(const Halide::Expr &v) {
    using namespace Halide;
    const Expr bits = reinterpret<uint32_t>(v);
    const Expr even = (bits >> 16) & cast<uint32_t>(1);
    return reinterpret<bfloat16_t>(extract_bits<uint16_t>(bits + cast<uint32_t>(0x7fff) + even, 16));
}

// A stored value as f32. Halide has no cast<float> of bf16 for CUDA; elsewhere it is the same shift.
inline Halide::Expr as_f32(const Halide::Expr &stored) {
    using namespace Halide;
    return stored.type().is_bfloat() ? reinterpret<float>(cast<uint32_t>(reinterpret<uint16_t>(stored)) << 16) : cast<float>(stored);
}

// An f32 value as the storage type keeps it.
inline Halide::Expr as_stored(const Halide::Expr &value, const Halide::Type &storage) {
    using namespace Halide;
    if (storage != BFloat(16)) {
        return cast(storage, value);
    }
    // Rounding would carry the NaN of GPUs, 0x7fffffff, over into a zero.
    const Expr nan = (reinterpret<uint32_t>(value) & cast<uint32_t>(0x7fffffff)) > cast<uint32_t>(0x7f800000);
    return reinterpret<bfloat16_t>(select(nan, cast<uint16_t>(0x7fc0), reinterpret<uint16_t>(round_bf16(value))));
}

// To nearest, halves away from zero, at half the cost: for softmax weights, whose rounding errors average out, and where the rest
// is kept. A NaN stays one if its lower 16 bits are 0, as are those of NaN that were bf16 or come from a sum of infinities.
inline Halide::Expr round_bf16_up(const Halide::Expr &v) {
    using namespace Halide;
    return reinterpret<bfloat16_t>(extract_bits<uint16_t>(reinterpret<uint32_t>(v) + cast<uint32_t>(0x8000), 16));
}

// The three bf16 numbers that add up to an f32 number, the largest first: 8 bits each. NaN stays NaN, in the last one at least,
// which is not rounded; so becomes what is infinite as bf16.
inline std::vector<Halide::Expr> bf16_pieces(const Halide::Expr &v) {
    using namespace Halide;
    std::vector<Expr> pieces;
    Expr rest = v;
    for (int i = 0; i < 2; i++) {
        pieces.push_back(round_bf16_up(rest));
        rest = strict_float(rest - as_f32(pieces.back()));
    }
    pieces.push_back(reinterpret<bfloat16_t>(extract_bits<uint16_t>(reinterpret<uint32_t>(rest), 16)));
    return pieces;
}

inline Halide::Expr gelu(const Halide::Expr &v) {
    return 0.5f * v * (1.f + erf(v * 0.70710678f));
}

// Buffers begin at 0: without that, blocks of scratch are made for a tile more.
inline void begin_at_zero(const Halide::Func &out) {
    for (int i = 0; i < out.dimensions(); i++) {
        out.output_buffer().dim(i).set_min(0);
    }
}

// Arguments that a caller may leave out come as one element with strides of 0.
template<class... Params>
void allow_any_stride(Params &...params) {
    (params.dim(0).set_stride(Halide::Expr()), ...);
}

}  // namespace moa
