#pragma once

#include "generators/codegen/kernel.h"

namespace moa {

// What the operation `attention` takes, whatever the algorithm: one launch serves all of them.
struct AttentionInputs {
    Halide::ImageParam q, k, v;
    Halide::ImageParam mask{Halide::UInt(8), 3, "mask"};
    Halide::ImageParam null_key{Halide::Float(32), 3, "null_key"};
    Halide::ImageParam null_value{Halide::Float(32), 3, "null_value"};
    Halide::Param<float> scale{"scale"};
    Halide::Param<int> has_null{"has_null"};

    std::vector<Halide::Argument> arguments() const {
        return {q, k, v, mask, null_key, null_value, scale, has_null};
    }
};

// Exact softmax attention with online statistics: out(d, i, h, e, b) = sum over keys j of weight(i, j) v(d, j, h, e, b), and
// over a null key that no mask hides. Scores are q . k * scale.
//
// A tile of query rows walks over blocks of keys. Vectors run along the rows, so that statistics are elementwise and keys and
// values are read as they lie, a broadcast element at a time. Every block is normalised by its own maximum, not by the
// running one: nothing in it depends on the state, which an update could not read otherwise; the state merges it with
// two factors. Scores are in units of log2, in pairs and tiles without the scale. Those of masked keys are finite, so that
// with no null key and no valid key all keys weigh the same.
//
// A NaN or an infinity in a query, in a valid key or in its value reaches what depends on it, one in a masked key nothing.
// Masked values are multiplied by 0: whoever writes them writes zeros there.
//
// Static values: head_dim (0: any), rows of a tile, keys of a block, pair = 2 for products of bf16 pairs (queries, keys,
// weights and values stay bf16, sums are f32), tiles = 1 for the same as products of matrix tiles: kTile x kTile sums of
// kTileChannels products, whose second operand lies in pairs, kTile pairs a row. Then head_dim and keys are multiples of
// kTileChannels and rows one of kTile.
struct Attention : AttentionInputs {
    enum State { kOldFactor,
                 kNewFactor,
                 kSum,
                 kMaximum,
                 kOutput };  // the state's rows; outputs from kOutput on

    static constexpr int kTile = 16, kTileChannels = 32;

    // row and tile; key of a block and block; head channel; member of a pair and pair; row of the state; matrix tile of rows,
    // place in a row of pairs and that row
    Halide::Var i{"i"}, t{"t"}, key{"key"}, j{"j"}, d{"d"}, l{"l"}, k2{"k2"}, c{"c"}, m{"m"}, x{"x"}, g{"g"};
    Halide::Var h{"h"}, e{"e"}, b{"b"}, y{"y"};
    Halide::RDom channels, null_channels, valid_keys, maximum_keys, sum_keys, mix_keys, steps;  // steps: state row, key block

    Halide::Func queries{"queries"};                                      // transposed tile: (i, d, ..), or (l, i, d / 2, ..) in pairs, or (x, g, ..) for tiles
    Halide::Func keys{"keys"};                                            // (d, key, j, ..) widened
    Halide::Func values{"values"};                                        // (d, key, j, ..) widened, or (l, d, key / 2, j, ..) in pairs
    Halide::Func value_rows{"value_rows"};                                // (d, key, j, ..): for tiles, whose values are (key, d, j, ..)
    Halide::Func product{"product"}, score{"score"};                      // (i, key, j, ..): a register tile, and the block
    Halide::Func block_maximum{"block_maximum"}, block_sum{"block_sum"};  // (i, j, ..)
    Halide::Func weight{"weight"};                                        // (i, key, j, ..), or (l, i, key / 2, j, ..), or (x, g, j, ..)
    Halide::Func mix{"mix"}, mixed{"mixed"};                              // (i, d, j, ..): a register tile, and the block
    Halide::Func ones{"ones"};                                            // (l): sums of bf16 weights are products with ones
    Halide::Func null_score{"null_score"};                                // (i, ..)
    Halide::Func any_valid{"any_valid"};                                  // (e, b): where there is no null key
    Halide::Func state{"state"};                                          // (i, c, ..)
    Halide::Func out{"out"};

    std::vector<Halide::Func> outputs() const;
};

Attention make_attention(Halide::Type storage, const Values &values);

}  // namespace moa
