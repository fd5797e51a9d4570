#pragma once

#include "Halide.h"

// Expressions that several algorithms share. Halide compiles for finite values: NaN is recognised by its bits.
namespace moa {

// 2^x for x <= 0, worst relative error 1.7e-7 on [-126, 0], 1 at 0, and 0 from -127 down, where the polynomial is 1 and taking
// 127 off its exponent leaves no bit: with a small number there instead, sums that begin with masked keys would be subnormal,
// which costs Intel's cores over 100 cycles an instruction. Rounding by adding and taking off 1.5 * 2^23, since round() of 16
// floats would be two half-width roundings and a merge; strict_float keeps the pair from being folded away and binds what is
// under it, so that x had better not hold a product that wants to be fused.
inline Halide::Expr exp2_negative(Halide::Expr x) {
    using namespace Halide;
    x = max(x, -127.f);
    const Expr shifted = strict_float(x + 12582912.f), f = x - strict_float(shifted - 12582912.f), exponent = reinterpret<int>(shifted);
    const float c[] = {1.f, 6.931470037e-01f, 2.402224243e-01f, 5.550733581e-02f, 9.671512991e-03f, 1.326472731e-03f};
    Expr p = c[5];
    for (int i = 4; i >= 0; i--) {
        p = p * f + c[i];
    }
    return reinterpret<float>(reinterpret<int>(p) + (exponent << 23));
}

// The same to 2.9e-6, enough for weights that are rounded to bf16; truncation lets x stay a fused multiply-add.
inline Halide::Expr exp2_negative_bf16(Halide::Expr x) {
    using namespace Halide;
    x = max(x, -127.f);
    const Expr exponent = cast<int>(x - 0.5f), f = x - cast<float>(exponent);
    const float c[] = {1.f, 6.931241751e-01f, 2.402409911e-01f, 5.590642616e-02f, 9.582852945e-03f};
    Expr p = c[4];
    for (int i = 3; i >= 0; i--) {
        p = p * f + c[i];
    }
    return reinterpret<float>(reinterpret<int>(p) + (exponent << 23));
}

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
// is kept. Some NaN become zeros.
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
