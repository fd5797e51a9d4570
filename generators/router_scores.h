#pragma once

#include "generators/codegen/kernel.h"
#include "generators/row_moments.h"

namespace moa {

// Similarity of every position to every routing token, and the row statistics that later norms need, from one read of x:
// scores(n, r, b) = <x(., n, b), tokens(., r, b)>, or cosine_scale times the cosine of the two where cosine_scale != 0;
// stats(n, q, b) as in row_statistics.h.
struct RouterScores {
    Halide::ImageParam x;
    Halide::ImageParam tokens{Halide::Float(32), 3, "tokens"};
    Halide::Param<float> cosine_scale{"cosine_scale"};
    Halide::Var l{"l"}, n{"n"}, r{"r"}, q{"q"}, b{"b"};
    RowMoments moments;
    Halide::RDom token_channels, blocks, lanes, tail;  // of channels; for cosines only
    Halide::Func square_parts{"square_parts"};         // (l, n, b)
    Halide::Func squares{"squares"};                   // (n, b): once more, so that scores and stats can have loops of their own
    Halide::Func token_squares{"token_squares"};  // (r, b)
    Halide::Func dot_parts{"dot_parts"};          // (l, r, n, b)
    Halide::Func dots{"dots"};                    // (r, n, b)
    Halide::Func scores{"scores"}, stats{"stats"};

    std::vector<Halide::Argument> arguments() const;
    std::vector<Halide::Func> outputs() const;
};

RouterScores make_router_scores(Halide::Type storage, const Values &statics);

}  // namespace moa
