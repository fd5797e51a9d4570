#pragma once

#include "generators/local_attention.h"
#include "generators/tensor_core/attention_tile.h"

namespace moa {

// The operation of generators/local_attention.h, with the same arguments, on the tensor cores of a GPU, for exact windows
// without a mask, bias, gate, shared_qk or normalisation, whose queries and keys are turned already: k_cos is 1, q_sin and k_sin
// are 0, and q_cos is the scale of the scores everywhere, which is positive. Inputs are bf16, f16 or f32, which is rounded to
// tf32; scores, statistics and sums are f32, weights are rounded to the input's type.
//
// The form is that of tensor_core/attention_tile.h. A block of threads takes a window's queries and walks over the slots of its
// windows; slots that a query must not see are hidden, by warps that have any such in a tile. A query sees itself, so that
// hidden slots weigh nothing in the end. The zeros that stand for positions from the last one to the end of its window are
// left out, too: a query's sum of weights gets exp(0 - maximum) for each, which adds nothing to its outputs.
//
// Memory: q, k, v and out have rows that begin at multiples of 16 bytes.
//
// Values: those of attention_tile.h; window = warps * tiles * 16, a multiple of keys.
struct LocalAttentionTensorCore : LocalAttentionInputs {
    Halide::Var d{"d"}, w{"w"}, h{"h"}, b{"b"};
    Halide::RDom rows;  // channel, row of the window

    tensor_core::AttentionTile tile;        // (.., query_tile, h, b): a tile of queries is a window
    Halide::Func log2_scale{"log2_scale"};  // (lane, warp, query_tile, h, b)
    Halide::Func out{"out"};                // (d, w, u, h, b): written where u * window + w is a position

    std::vector<Halide::Func> outputs() const;
};

LocalAttentionTensorCore make_local_attention_tensor_core(Halide::Type storage, const Values &values);

}  // namespace moa
