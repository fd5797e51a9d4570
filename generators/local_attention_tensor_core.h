#pragma once

#include "generators/codegen/kernel.h"
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
// Memory: q, k, v and out have rows that begin at multiples of 16 bytes. Values of slots that are hidden from some of a window's
// queries must be finite.
//
// Values: those of attention_tile.h; window = warps * tiles * 16, a multiple of keys.
struct LocalAttentionTensorCore {
    Halide::ImageParam q, k, v;
    Halide::ImageParam mask{Halide::UInt(8), 2, "mask"};
    Halide::ImageParam q_cos{Halide::Float(32), 2, "q_cos"}, q_sin{Halide::Float(32), 2, "q_sin"};
    Halide::ImageParam k_cos{Halide::Float(32), 2, "k_cos"}, k_sin{Halide::Float(32), 2, "k_sin"};
    Halide::ImageParam q_gain{Halide::Float(32), 1, "q_gain"}, k_gain{Halide::Float(32), 1, "k_gain"};
    Halide::ImageParam bias{Halide::Float(32), 3, "bias"};
    Halide::ImageParam gate;
    Halide::Param<int> window{"window"}, look_backward{"look_backward"}, look_forward{"look_forward"};
    Halide::Param<int> causal{"causal"}, exact{"exact"}, shared_qk{"shared_qk"}, normalize_q{"normalize_q"}, normalize_k{"normalize_k"};
    Halide::Param<int> has_bias{"has_bias"}, has_gate{"has_gate"}, has_mask{"has_mask"};

    Halide::Var d{"d"}, w{"w"}, h{"h"}, b{"b"};
    Halide::RDom rows;  // channel, row of the window

    tensor_core::AttentionTile tile;        // (.., query_tile, h, b): a tile of queries is a window
    Halide::Func log2_scale{"log2_scale"};  // (lane, warp, query_tile, h, b)
    Halide::Func out{"out"};                // (d, w, u, h, b): written where u * window + w is a position

    std::vector<Halide::Argument> arguments() const;
    std::vector<Halide::Func> outputs() const;
};

LocalAttentionTensorCore make_local_attention_tensor_core(Halide::Type storage, const Values &values);

}  // namespace moa
