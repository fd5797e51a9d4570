#pragma once

#include "Halide.h"

// Instructions of NVIDIA's GPUs as pure or impure calls, for algorithms that are written for them. Halide hands the names on, and
// LLVM knows them as intrinsics.
namespace moa {

// The address of a tensor on the device, known before the kernel is launched. A pure call, so that what is said of it inside
// of a kernel is found out on the host.
inline Halide::Expr device_address(const Halide::Parameter &tensor) {
    using namespace Halide;
    const Expr handle = Internal::Variable::make(type_of<halide_buffer_t *>(), tensor.name() + ".buffer", tensor);
    return Internal::Call::make(UInt(64), Internal::Call::buffer_get_device, {handle}, Internal::Call::PureExtern);
}

// Bit i of the result: the condition of lane i of the warp. All 32 lanes must get there: no condition around it may differ
// from lane to lane.
inline Halide::Expr warp_ballot(const Halide::Expr &condition) {
    using namespace Halide;
    const Expr bits = Internal::Call::make(Int(32), "llvm.nvvm.vote.ballot.sync", {Expr(-1), cast<bool>(condition)}, Internal::Call::Extern);
    return reinterpret<uint32_t>(bits);
}

// The value of x, 32 bits, in lane `lane ^ distance` of the warp. All 32 lanes must get there, as above.
inline Halide::Expr warp_exchange(const Halide::Expr &x, int distance) {
    using namespace Halide;
    const char *name = x.type().is_float() ? "llvm.nvvm.shfl.sync.bfly.f32" : "llvm.nvvm.shfl.sync.bfly.i32";
    return Internal::Call::make(x.type(), name, {Expr(-1), x, Expr(distance), Expr(31)}, Internal::Call::Extern);
}

// The value of x in the lane `distance` lower; the lane's own where there is none.
inline Halide::Expr warp_shift_up(const Halide::Expr &x, int distance) {
    using namespace Halide;
    const char *name = x.type().is_float() ? "llvm.nvvm.shfl.sync.up.f32" : "llvm.nvvm.shfl.sync.up.i32";
    return Internal::Call::make(x.type(), name, {Expr(-1), x, Expr(distance), Expr(0)}, Internal::Call::Extern);
}

// 2^x by the special function unit: 2 ulp, 0 for results below 2^-126, exactly 1 at 0.
inline Halide::Expr exp2_approximate(const Halide::Expr &x) {
    using namespace Halide;
    return Internal::Call::make(Float(32), "llvm.nvvm.ex2.approx.ftz.f", {x}, Internal::Call::PureExtern);
}

// The larger and the smaller of two f32; NaN if one of them is. max and min of a number and NaN are the number.
inline Halide::Expr maximum_or_nan(const Halide::Expr &a, const Halide::Expr &b) {
    using namespace Halide;
    return Internal::Call::make(Float(32), "llvm.nvvm.fmax.nan.f", {a, b}, Internal::Call::PureExtern);
}
inline Halide::Expr minimum_or_nan(const Halide::Expr &a, const Halide::Expr &b) {
    using namespace Halide;
    return Internal::Call::make(Float(32), "llvm.nvvm.fmin.nan.f", {a, b}, Internal::Call::PureExtern);
}

}  // namespace moa
