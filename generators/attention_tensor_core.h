#pragma once

#include "generators/attention.h"
#include "generators/tensor_core/attention_tile.h"

namespace moa {

// The operation of generators/attention.h, with the same arguments, on the tensor cores of a GPU. Inputs are bf16, f16 or
// f32, which is rounded to tf32; scores, statistics and sums are f32, weights are rounded to the input's type.
//
// The form is that of tensor_core/attention_tile.h. Without a null key and a valid key, all keys weigh the same: such rows are computed
// again. Tiles without a hidden key skip all of that.
//
// Memory: q, k, v and out have rows that begin at multiples of 16 bytes; the others any strides.
//
// Values: those of attention_tile.h; masked = 0 takes all keys for valid.
struct AttentionTensorCore : AttentionInputs {
    Halide::Var d{"d"}, i{"i"}, h{"h"}, e{"e"}, b{"b"}, half{"half"};
    Halide::RDom null_channels;

    tensor_core::AttentionTile tile;        // (.., query_tile, h, e, b)
    Halide::Func valid{"valid"};            // (lane, warp, key_tile, e, b): bits of the tile's keys; none if nothing is masked
    Halide::Func null_part{"null_part"};    // (lane, warp, half, mt, query_tile, ..): a lane's part of q . null_key
    Halide::Func null_score{"null_score"};  // (lane, warp, mt, query_tile, ..)
    Halide::Func out{"out"};                // (d, i, h, e, b)

    std::vector<Halide::Func> outputs() const;
};

AttentionTensorCore make_attention_tensor_core(Halide::Type storage, const Values &values);

}  // namespace moa
