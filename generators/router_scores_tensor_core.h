#pragma once

#include "generators/router_scores.h"

#include <utility>
#include <vector>

namespace moa {

// The operation of router_scores.h on the tensor cores of a GPU, as exact as sums in f32: a number of f32 is the sum of two of
// tf32, to 22 bits, one of 16 bits is one of them, and products of those are exact. Statistics are sums in f32.
//
// A block of threads takes 16 positions and up to 8 routers. Its warps share the channels: a lane takes 16 bytes of both of its
// rows at once, the 4 lanes of a row take neighbouring ones. One pass finds squared distances from the mean: a warp takes a
// row's values relative to the first of them that it reads, which is near enough for the difference of squares, and warps are
// merged by their means. Scores of a row with an infinity may be NaN. A grid has at most 65535 batch rows.
//
// Values: warps.
struct RouterScoresTensorCore : RouterScoresInputs {
    static constexpr int kMembers = 4, kPieces = 2, kRouters = 8;

    Halide::Var n{"n"}, r{"r"}, b{"b"};
    // word or element of a group of 16 bytes, such groups of all warps; rows g and g + 8 of a lane, and its place among their lanes
    Halide::Var v{"v"}, batch{"batch"}, half{"half"}, member{"member"}, piece{"piece"};
    Halide::Var lane{"lane"}, warp{"warp"}, row{"row"}, router{"router"}, row_tile{"row_tile"}, router_tile{"router_tile"};
    Halide::RDom channels;  // two of a group, batch
    Halide::RDom squared, squared_lanes;

    Halide::Func pivot{"pivot"};                  // (half, lane, warp, row_tile, b): a word of it
    Halide::Func x_words{"x_words"};              // (v, half, batch, lane, warp, row_tile, b): the pivot where there is no channel
    Halide::Func token_values{"token_values"};    // (v, batch, lane, warp, router_tile, b): 0 where there is no channel
    Halide::Func token_words{"token_words"};      // (v, piece, batch, lane, warp, router_tile, b)
    Halide::Func sums{"sums"};                    // (lane, warp, row_tile, router_tile, b): fragments of products; of both rows the values' and the squares' sums, relative to the pivot
    Halide::Func products{"products"};            // (router, row, warp, row_tile, router_tile, b): of a warp's channels
    Halide::Func segments{"segments"};            // (member, row, warp, row_tile, router_tile, b): likewise the sum, and the squared distances from their mean
    Halide::Func moments{"moments"};              // (row, row_tile, router_tile, b): mean, and squared distances from it
    Halide::Func token_parts{"token_parts"};      // (lane, router, router_tile, b): partial sums of a token's squares, for cosines only
    Halide::Func token_squares{"token_squares"};  // (router, router_tile, b)
    Halide::Func scores{"scores"};                // (n, r, b)
    Halide::Func stats{"stats"};                  // (n, r, b): r is the statistic; loops are shared with scores by the names of their axes

    Halide::Expr in_copies;  // whether rows may be read by 16 bytes, decided for every launch
    int warps = 0;
    std::vector<std::pair<int, int>> terms;  // pieces of x and of the token that are multiplied

    int group() const;  // channels in 16 bytes
    std::vector<Halide::Func> outputs() const;
};

RouterScoresTensorCore make_router_scores_tensor_core(Halide::Type storage, const Values &values);

}  // namespace moa
