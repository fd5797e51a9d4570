#pragma once

#include "generators/codegen/kernel.h"
#include "generators/tensor_core/fragment.h"
#include "generators/tensor_core/instructions.h"

#include <functional>
#include <limits>
#include <vector>

namespace moa::tensor_core {

// What attention operations on tensor cores have in common: a block of threads takes warps * tiles * 16 queries of a head and
// walks over tiles of keys with running maxima. Operations say where queries, keys and values come from, which scores are
// hidden, what the sums begin with and where the outputs go.
//
// A hidden score is -infinity, and a running maximum a number from the start, so that hidden keys weigh 0. Maxima are those of scores
// times the scale, rounded up: no weight is larger than 1. The statistics are rows of the sums' Func, since an update defines one Func.
//
// That is right as long as maxima are small enough for their rounding not to matter, and values of hidden keys finite: 0 times NaN is
// NaN. Where a row shows that it may be otherwise, its lanes compute it again (attention_again.cpp).
struct AttentionTile {
    static constexpr int kChunksOfPart = 8;
    static constexpr float kNothing = std::numeric_limits<float>::lowest();  // the maximum of no score

    // Values: head_dim: 32, 64 or 128; keys of a tile: 32, 64 or 128; warps; tiles of 16 queries of a warp; stages: tiles in
    // shared memory; queries_shared = 1 reads queries anew from shared memory for every tile of keys instead of holding them
    // in registers. warpgroups = 1: four warps multiply together (wgmma; bf16 and f16; tiles = 1). The loop over tiles of keys
    // then has the sums of the outputs in the instructions' registers, and queries are in shared memory. copies_last = 1: the
    // scores' products begin before an iteration's copies.
    int head_dim = 0, keys = 0, warps = 0, tiles = 0, stages = 0;
    bool queries_shared = false, warpgroups = false, copies_last = false;
    Input input = Input::bf16;

    // element of a 16-byte chunk, its place in the row (fragment.h), row of a tile; tile of keys, tile of queries
    Halide::Var element{"element"}, place{"place"}, y{"y"}, key_tile{"key_tile"}, query_tile{"query_tile"};
    Halide::Var lane{"lane"}, warp{"warp"}, nt{"nt"}, mt{"mt"}, slot{"slot"}, part{"part"}, product{"product"};
    Halide::RDom score_steps, steps;    // product of a pair and pair; product, slot, tile of keys
    std::vector<Halide::RDom> hidings;  // updates of the score after the products, of one step each
    // The last arguments of Funcs: which queries, and which keys after the tile of keys.
    std::vector<Halide::Var> of_queries, of_keys;

    Halide::Func q_tile{"q_tile"};    // (element, place, y, queries): only if queries are shared
    Halide::Func q_words{"q_words"};  // (part, product, lane, warp, mt, queries): only if they are not
    Halide::Func k_tile{"k_tile"};    // (element, place, y, key_tile, keys)
    Halide::Func v_tile{"v_tile"};    // (element, place, y, key_tile, keys)
    // Of warpgroups: (lane, warp, key_tile, queries): token of the products of a tile; (lane, warp, queries): token of the outputs'
    // sums, sums and maxima of a lane's two rows. Both are what `score` and `sums` are read from.
    Halide::Func score_group{"score_group"}, running{"running"};
    Halide::Func score{"score"};      // (lane, warp, nt, mt, key_tile, queries)
    Halide::Func top{"top"};          // (lane, warp, mt, key_tile, queries): maxima of a lane's two rows
    Halide::Func sums{"sums"};        // (lane, warp, slot, mt, queries): outputs, then sums and maxima
    Halide::Func inverse{"inverse"};  // (lane, warp, mt, queries)
    Halide::Func result{"result"};    // (lane, warp, slot, mt, queries): outputs

    // Of rows that are computed again, for which (lane, warp, queries) has bit 2 mt + half: row group_of(lane) + 8 half of tile mt.
    // By (half, mt, lane, warp, queries): score of a key, maximum and sum of weights and of ones, its channels.
    Halide::Func wanted_again{"wanted_again"};
    Halide::Func score_again[2] = {Halide::Func("score_again_first"), Halide::Func("score_again_second")};  // (key, ..)
    Halide::Func softmax_again{"softmax_again"};
    Halide::Func null_again{"null_again"};
    Halide::Func mix_again{"mix_again"};  // (pair, slot, ..)
    Halide::Var half{"half"}, pair{"pair"}, key{"key"};
    Halide::RDom once, again_channels[3], again_keys[2];

    int rows_of_warp() const {
        return kTileRows * tiles;
    }
    int rows_of_block() const {
        return warps * rows_of_warp();
    }
    int products() const {  // of a score
        return head_dim / (kWordsOfProduct * elements_of_word(input));
    }
    int row_chunks() const {
        return head_dim / (kWordsOfCopy * elements_of_word(input));
    }
    // Of a row of a tile in shared memory: warpgroups want rows of 128 bytes at most, and the parts of a wider row behind each
    // other.
    int chunks() const {
        return warpgroups && row_chunks() > kChunksOfPart ? kChunksOfPart : row_chunks();
    }
    int parts() const {
        return row_chunks() / chunks();
    }
    int outputs() const {  // tiles of columns; the slot after them holds the statistics
        return head_dim / kTileColumns;
    }
    Halide::Expr row_of_tile(const Halide::Expr &row) const {
        return warp * rows_of_warp() + mt * kTileRows + row;
    }

    // f(own.., queries) and f(own.., keys).
    Halide::FuncRef at_queries(const Halide::Func &f, std::vector<Halide::Expr> own) const;
    Halide::FuncRef at_keys(const Halide::Func &f, std::vector<Halide::Expr> own) const;

    void read(Halide::Type storage, const Values &values);

    using Element = std::function<Halide::Expr(const Halide::Expr &channel, const Halide::Expr &row)>;
    void define_queries(const Element &query);                   // by row of the block
    void define_keys(const Element &key, const Element &value);  // by row of key_tile
    void define_products();                                      // scores, all shown
    // The two scores of a key `in_tile` and of rows row and row + 8 of the block are replaced by shown(scores, row, in_tile) if
    // some_hidden, which must be the same for a warp. Each call is a pass of its own.
    using Shown = std::function<std::vector<Halide::Expr>(const std::vector<Halide::Expr> &scores, const Halide::Expr &row, const Halide::Expr &in_tile)>;
    void define_hidden(const Halide::Expr &some_hidden, const Shown &shown);
    void define_top();
    // first: the four components of a slot before the first tile.
    void define_sums(const std::vector<Halide::Expr> &first, const Halide::Expr &log2_scale, const Halide::Expr &key_tiles);
    // more: added to the sums of a lane's two rows, if there is any.
    void define_inverse(const std::vector<Halide::Expr> &more = {});

    // How a row is computed again: elements as f32, of rows of the block and of any key.
    struct Again {
        Halide::Expr keys, log2_scale;
        std::function<Halide::Expr(const Halide::Expr &channel, const Halide::Expr &row)> query;       // stored
        std::function<Halide::Expr(const Halide::Expr &channel, const Halide::Expr &key)> key, value;  // stored
        std::function<Halide::Expr(const Halide::Expr &row, const Halide::Expr &key)> visible;
        std::function<Halide::Expr(const Halide::Expr &row, const Halide::Expr &maximum)> more;  // sum of other weights, if there are any
        Halide::Expr has_null;                                                                   // if there may be a null key
        std::function<Halide::Expr(const Halide::Expr &channel)> null_key, null_value;           // f32
    };
    void define_result(const Again &again);

    // Channel of column n of a slot; the output of a row of the block.
    Halide::Expr channel_of(const Halide::Expr &slot, const Halide::Expr &n) const;
    Halide::Expr output(const Halide::Expr &d, const Halide::Expr &row, const std::vector<Halide::Expr> &queries) const;

    bool in_shared() const {  // queries
        return queries_shared || warpgroups;
    }
    // The Func whose loop goes over the tiles of keys.
    const Halide::Func &loop() const {
        return warpgroups ? running : sums;
    }
    Halide::Func &loop() {
        return warpgroups ? running : sums;
    }

private:
    static constexpr int kScores = 0, kOutputs = 1;  // sets of sums
    Halide::Expr channel_in_tile(int rows) const;
    WarpgroupTile tile_at(const Halide::Expr &first_element, int rows) const;
    void define_group_products();
    void define_group_sums(const std::vector<Halide::Expr> &first, const Halide::Expr &log2_scale, const Halide::Expr &key_tiles);

    // The operands of the products of weights and values. Sums of scores are in the places that the first operand asks for:
    // two tiles of 16-bit weights in pairs, or one tile of f32 ones, whose second column then is the products' word t + 4.
    struct Operands {
        std::vector<Halide::Expr> weights, values;
    };
    using Weight = std::function<Halide::Expr(const Halide::Expr &tile, int i)>;
    // Of a lane's two rows, at a tile of keys, with the maxima `old` of the tiles before.
    struct Softmax {
        std::vector<Halide::Expr> top, shrink, sum;  // scaled maxima with this tile; factors of the sums before; sums of its weights
        Weight weight;

        // The statistics after the tile: sums and maxima.
        std::vector<Halide::Expr> kept(const std::vector<Halide::Expr> &sums) const {
            return {sums[0] * shrink[0] + sum[0], sums[1] * shrink[1] + sum[1], top[0], top[1]};
        }
    };
    void define_wanted_again();
    void define_softmax_again(const Again &again);
    Halide::Expr row_again(const Halide::Expr &of_half) const {
        return row_of_tile(group_of(lane) + 8 * of_half);
    }
    Halide::Expr any_again() const {
        return at_queries(wanted_again, {lane, warp}) != Halide::cast<uint32_t>(0);
    }
    std::vector<Halide::Expr> own_again() const {
        return {half, mt, lane, warp};
    }
    Softmax softmax_of(const std::vector<Halide::Expr> &old, const Halide::Expr &of_mt, const Halide::Expr &tile_of_keys, const Halide::Expr &log2_scale) const;
    std::vector<Halide::Expr> weights_of(const Halide::Expr &of_keys_tile, const Weight &weight) const;  // 16-bit, 16 keys
    Operands operands_of(const Halide::Expr &of_keys_tile, const Halide::Expr &column, const Halide::Expr &tile_of_keys, const Weight &weight) const;
    Place place_of_channel(const Halide::Expr &row, const Halide::Expr &d) const;
};

Halide::Expr larger(const Halide::Expr &a, const Halide::Expr &b);
Halide::Expr plus(const Halide::Expr &a, const Halide::Expr &b);

}  // namespace moa::tensor_core
