#pragma once

#include "generators/tensor_core/attention_tile.h"

#include <vector>

// Schedules of what attention operations on tensor cores have in common (generators/tensor_core/attention_tile.h).
namespace moa::tensor_core {

// Everything of the tile, for blocks of threads that are the loop over query_tile of `out`. more: register Funcs of the
// operation's own that are computed once a block; their loops are left to it.
void schedule_attention_tile(AttentionTile &a, const Halide::Func &out, const std::vector<Halide::Func> &more = {});

// Loops over a Func of queries in registers, innermost first: unrolled ones, others, queries, lanes and warps, and what is
// outside of them.
void by_threads(const AttentionTile &a, Halide::Stage stage, const std::vector<Halide::VarOrRVar> &unrolled, const std::vector<Halide::VarOrRVar> &loops = {},
                const std::vector<Halide::VarOrRVar> &outer = {});
void store_by_threads(const AttentionTile &a, Halide::Func f, std::vector<Halide::Var> own);

// A block has one tile of queries of one head.
void bound_to_block(const AttentionTile &a, Halide::Func f);

// The output's rows of a block and its channels to the lanes that have them; blocks: the loops outside.
void give_to_lanes(const AttentionTile &a, Halide::Stage out, const Halide::VarOrRVar &row, const Halide::VarOrRVar &d, const std::vector<Halide::VarOrRVar> &blocks);

void read_by_16_bytes(const AttentionTile &a, Halide::ImageParam &tensor);
void write_by_16_bytes(const AttentionTile &a, Halide::OutputImageParam out);

}  // namespace moa::tensor_core
