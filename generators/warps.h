#pragma once

#include "generators/codegen/kernel.h"

#include <functional>
#include <string>
#include <utility>
#include <vector>

// Blocks of 32 warps of 32 lanes as axes of Funcs: (l, w, ...) is of lane l of warp w. Lanes exchange values by instructions of
// the GPU; simulated, for schedules of the CPU, they read each other's, so that the same algorithm is tested without a GPU.
namespace moa {

struct Warps {
    static constexpr int kLanes = 32, kWarps = 32, kThreads = kLanes * kWarps;
    using Combine = std::function<Halide::Tuple(const Halide::Tuple &, const Halide::Tuple &)>;

    bool simulated = false;
    Halide::Var l{"l"}, w{"w"}, r{"r"}, b{"b"};

    explicit Warps(const Values &values)
        : simulated(values.get("simulated", 0) != 0) {
    }

    // Steps to all of a warp's values combined, known to each of its lanes: the last Func has them. In the same order for
    // all lanes, but for the sides of a combination.
    std::vector<Halide::Func> fold(const std::string &name, const Halide::Func &values, const Combine &combine) const;
    // Steps to sums of the values of all lanes up to this.
    std::vector<Halide::Func> scan(const std::string &name, const Halide::Func &values) const;
    Halide::Expr ballot(const Halide::Expr &condition, const Halide::Expr &lane) const;  // simulated: the lane's bit
    Halide::Expr exp2(const Halide::Expr &x) const;                                      // for x <= 0, exactly 1 at 0
    Halide::Expr maximum_or_nan(const Halide::Expr &a, const Halide::Expr &b) const;     // of f32; NaN if one of them is
    Halide::Expr minimum_or_nan(const Halide::Expr &a, const Halide::Expr &b) const;
};

Halide::Tuple plus(const Halide::Tuple &a, const Halide::Tuple &b);

}  // namespace moa
