#pragma once

#include "Halide.h"

// Exponentials of softmax on CPUs.
namespace moa {

// The larger of x and a number; a NaN stays one. x86's maximum gives its second operand then, so this is one instruction.
inline Halide::Expr at_least(float lowest, const Halide::Expr &x) {
    using namespace Halide;
    return select(strict_float(x < lowest), lowest, x);
}

// 2^x for x <= 0, worst relative error 1.7e-7 on [-126, 0], 1 at 0, 0 from -127 down, whose power of two has no bits, and NaN of
// NaN. With a small number in place of 0, sums that begin with masked keys would be subnormal,
// which costs Intel's cores over 100 cycles an instruction. Rounding by adding and taking off 1.5 * 2^23 + 127, since round() of
// 16 floats would be two half-width roundings and a merge; strict_float keeps the pair from being folded away and binds what is
// under it, so that x had better not hold a product that wants to be fused.
inline Halide::Expr exp2_negative(Halide::Expr x) {
    using namespace Halide;
    x = at_least(-127.f, x);
    const Expr shifted = strict_float(x + 12583039.f), f = x - strict_float(shifted - 12583039.f);
    const float c[] = {1.f, 6.931470037e-01f, 2.402224243e-01f, 5.550733581e-02f, 9.671512991e-03f, 1.326472731e-03f};
    Expr p = c[5];
    for (int i = 4; i >= 0; i--) {
        p = p * f + c[i];
    }
    return p * reinterpret<float>(reinterpret<uint32_t>(shifted) << 23);
}

// The same to 2.9e-6, enough for weights that are rounded to bf16; truncation lets x stay a fused multiply-add. The exponent of
// a NaN is -2^31, of which no bit is left.
inline Halide::Expr exp2_negative_bf16(Halide::Expr x) {
    using namespace Halide;
    x = at_least(-127.f, x);
    const Expr exponent = cast<int>(x - 0.5f), f = x - cast<float>(exponent);
    const float c[] = {1.f, 6.931241751e-01f, 2.402409911e-01f, 5.590642616e-02f, 9.582852945e-03f};
    Expr p = c[4];
    for (int i = 3; i >= 0; i--) {
        p = p * f + c[i];
    }
    return reinterpret<float>(reinterpret<int>(p) + (exponent << 23));
}

}  // namespace moa
