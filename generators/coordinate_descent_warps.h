#pragma once

#include "generators/warps.h"

namespace moa {

// The operation coordinate_descent of coordinate_descent.h for schedules that give a row to a block of 32 warps: an iteration is
// one pass over the row, with sums of a warp by exchanges between its lanes and one meeting of all warps, after which each of
// them makes the next dual variable for itself from the sums of all.
struct CoordinateDescentWarps {
    static constexpr int kUnrolled = 4;  // positions of a thread that go together

    struct Pass {
        Halide::Func own;                // (l, w, r, b): a thread's
        std::vector<Halide::Func> fold;  // (l, w, r, b)
        Halide::Func state;              // (w, r, b): what other warps see
    };
    // What each thread finds out from the states of a pass.
    struct Outcome {
        Halide::Func read;               // (l, w, r, b): warp l's
        std::vector<Halide::Func> fold;  // (l, w, r, b)
        Halide::Func start;              // (l, w, r, b): {dual, factor and addend of exponents, largest}
    };

    explicit CoordinateDescentWarps(const Values &values)
        : warps(values) {
    }

    Warps warps;
    Halide::ImageParam scores{Halide::Float(32), 3, "scores"};  // (n, r, b)
    Halide::ImageParam mask{Halide::UInt(8), 2, "mask"};        // (n, b)
    Halide::Param<float> log_k{"log_k"};
    Halide::ImageParam eps{Halide::Float(32), 1, "eps"};
    Halide::Var n{"n"};
    Halide::RDom steps, lanes;      // of a thread; of a warp
    Halide::Func values{"values"};  // (n, r, b): masked positions hold the smallest number, and no others do
    std::vector<Pass> passes;       // the first finds the largest score and how many are valid
    std::vector<Outcome> outcomes;  // one for each pass
    Halide::Func last{"last"};      // (r, b): the last dual
    Halide::Func y{"y"};

    std::vector<Halide::Argument> arguments() const;
    std::vector<Halide::Func> outputs() const;
};

CoordinateDescentWarps make_coordinate_descent_warps(Halide::Type storage, const Values &statics);

}  // namespace moa
