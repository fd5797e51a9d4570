#pragma once

#include "generators/codegen/kernel.h"
#include "generators/tensor_core/instructions.h"

namespace moa {

// The operation of generators/attention.h, with the same arguments, on the tensor cores of a GPU. Inputs are bf16, f16 or
// f32, which is rounded to tf32; scores, statistics and sums are f32, weights are rounded to the input's type.
//
// A block of threads takes warps * tiles * 16 queries of one head and walks over tiles of keys with running maxima. A masked
// key's score is a negative power of two, which times the scale is exact: without a null key and a valid key, all keys weigh
// the same, and keys beyond the last weigh nothing. Tiles without a hidden key skip all of that. The statistics are rows of
// the sums' Func, since an update defines one Func.
//
// Memory: q, k, v and out have rows that begin at multiples of 16 bytes; the others any strides. Values of masked keys must
// be finite.
//
// Values: head_dim: 32, 64 or 128; keys of a tile: 32, 64 or 128; warps; tiles of 16 queries of a warp; stages;
// queries_shared = 1 reads queries anew from shared memory for every tile of keys instead of holding them in registers;
// masked = 0 takes all keys for valid.
struct AttentionTensorCore {
    Halide::ImageParam q, k, v;
    Halide::ImageParam mask{Halide::UInt(8), 3, "mask"};
    Halide::ImageParam null_key{Halide::Float(32), 3, "null_key"};
    Halide::ImageParam null_value{Halide::Float(32), 3, "null_value"};
    Halide::Param<float> scale{"scale"};
    Halide::Param<int> has_null{"has_null"};

    Halide::Var d{"d"}, i{"i"}, h{"h"}, e{"e"}, b{"b"};
    // element of a 16-byte chunk, its place in the row (fragment.h), row of a tile; tile of keys, tile of queries
    Halide::Var element{"element"}, place{"place"}, y{"y"}, key_tile{"key_tile"}, query_tile{"query_tile"};
    Halide::Var lane{"lane"}, warp{"warp"}, nt{"nt"}, mt{"mt"}, slot{"slot"}, half{"half"}, part{"part"}, product{"product"};
    Halide::RDom score_steps, null_channels, hide, steps;  // product of a pair and pair; -; -; product, slot, tile of keys

    Halide::Func q_tile{"q_tile"};          // (element, place, y, query_tile, h, e, b): only if queries are shared
    Halide::Func q_words{"q_words"};        // (part, product, lane, warp, mt, query_tile, h, e, b): only if they are not
    Halide::Func k_tile{"k_tile"};          // (element, place, y, key_tile, h, e, b)
    Halide::Func v_tile{"v_tile"};          // (element, place, y, key_tile, h, e, b)
    Halide::Func valid{"valid"};            // (lane, warp, key_tile, e, b): bits of the tile's keys
    Halide::Func score{"score"};            // (lane, warp, nt, mt, key_tile, query_tile, h, e, b)
    Halide::Func top{"top"};                // (lane, warp, mt, key_tile, ..): maxima of a lane's two rows
    Halide::Func null_part{"null_part"};    // (lane, warp, half, mt, query_tile, ..): a lane's part of q . null_key
    Halide::Func null_score{"null_score"};  // (lane, warp, mt, query_tile, ..)
    Halide::Func sums{"sums"};              // (lane, warp, slot, mt, query_tile, ..): outputs, then sums and maxima
    Halide::Func inverse{"inverse"};        // (lane, warp, mt, query_tile, ..)
    Halide::Func out{"out"};                // (d, i, h, e, b)

    int head_dim = 0, keys = 0, warps = 0, tiles = 0, stages = 0;
    bool queries_shared = false;
    tensor_core::Input input = tensor_core::Input::bf16;

    int rows_of_warp() const {
        return 16 * tiles;
    }
    int rows_of_block() const {
        return warps * rows_of_warp();
    }
    int products() const {  // of a score
        return head_dim / (tensor_core::kWordsOfProduct * tensor_core::elements_of_word(input));
    }
    int chunks() const {
        return head_dim / (tensor_core::kWordsOfCopy * tensor_core::elements_of_word(input));
    }
    std::vector<Halide::Argument> arguments() const;
    std::vector<Halide::Func> outputs() const;
};

AttentionTensorCore make_attention_tensor_core(Halide::Type storage, const Values &values);

}  // namespace moa
