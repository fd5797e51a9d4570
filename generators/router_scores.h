#pragma once

#include "generators/codegen/kernel.h"
#include "generators/row_moments.h"

namespace moa {

// Similarity of every position to every routing token, and the row statistics that later norms need, from one read of x:
// scores(n, r, b) = <x(., n, b), tokens(., r, b)>, or cosine_scale times the cosine of the two where cosine_scale != 0;
// stats(n, q, b) as in row_statistics.h.
struct RouterScoresInputs {
    Halide::ImageParam x;
    Halide::ImageParam tokens{Halide::Float(32), 3, "tokens"};
    Halide::Param<float> cosine_scale{"cosine_scale"};

    std::vector<Halide::Argument> arguments() const {
        return {x, tokens, cosine_scale};
    }
    void constrain_shapes(Halide::Func scores, Halide::Func stats) {
        const Halide::Expr positions = x.dim(1).extent();
        tokens.dim(0).set_bounds(0, x.dim(0).extent());
        scores.output_buffer().dim(0).set_bounds(0, positions);
        scores.output_buffer().dim(1).set_bounds(0, tokens.dim(1).extent());
        stats.output_buffer().dim(0).set_bounds(0, positions);
        stats.output_buffer().dim(1).set_bounds(0, RowMoments::kStatistics);
        stats.output_buffer().dim(2).set_bounds(0, scores.output_buffer().dim(2).extent());
        scores.output_buffer().dim(2).set_min(0);
    }
};

struct RouterScores : RouterScoresInputs {
    // A sum over the channels: RowMoments::kLanes partial sums of whole blocks, then the channels after the last block.
    struct Sum {
        Halide::RDom blocks, lanes, tail;
        Halide::Func parts;  // (l, and what the total has)
        Halide::Func total;
    };

    Halide::Var l{"l"}, n{"n"}, r{"r"}, q{"q"}, b{"b"};
    RowMoments moments;
    Sum dots;                                   // (r, n, b)
    Sum squares, token_squares;                 // (n, b), (r, b), for cosines only; of x once more, so that scores share no Func with stats
    Halide::Func row_factor{"row_factor"};      // (n, b): of cosines
    Halide::Func token_factor{"token_factor"};  // (r, b)
    Halide::Func scores{"scores"}, stats{"stats"};

    std::vector<Halide::Func> outputs() const;
};

RouterScores make_router_scores(Halide::Type storage, const Values &statics);

}  // namespace moa
