#pragma once

#include "generators/row_sums.h"

namespace moa {

// The operation of router_scores.h for schedules that give a row to a warp. The value `routers` is how many products are
// made at once.
struct RouterScoresGpu {
    Halide::ImageParam x;
    Halide::ImageParam tokens{Halide::Float(32), 3, "tokens"};
    Halide::Param<float> cosine_scale{"cosine_scale"};
    Halide::Var n{"n"}, r{"r"}, q{"q"}, b{"b"}, l{"l"};
    RowSums sums;
    Halide::RDom squared, squared_lanes;
    Halide::Func token_parts{"token_parts"};      // (l, r, b): partial sums of a token's squares, for cosines only
    Halide::Func token_factor{"token_factor"};    // (r, b)
    Halide::Func token_squares{"token_squares"};  // (r, b)
    Halide::Func scores{"scores"}, stats{"stats"};

    std::vector<Halide::Argument> arguments() const;
    std::vector<Halide::Func> outputs() const;
};

RouterScoresGpu make_router_scores_gpu(Halide::Type storage, const Values &statics);

}  // namespace moa
