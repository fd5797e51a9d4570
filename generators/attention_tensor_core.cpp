#include "generators/attention_tensor_core.h"

#include "generators/math.h"

#include <limits>

namespace moa {

using namespace Halide;
using namespace moa::tensor_core;

std::vector<Func> AttentionTensorCore::outputs() const {
    return {out};
}

namespace {

Expr query_row(const AttentionTensorCore &a, const Expr &y) {
    return min(a.tile.query_tile * a.tile.rows_of_block() + y, a.q.dim(1).extent() - 1);
}

void define_tiles(AttentionTensorCore &a) {
    AttentionTile &tile = a.tile;
    tile.of_queries = {tile.query_tile, a.h, a.e, a.b};
    tile.of_keys = {a.h, a.e, a.b};
    tile.define_queries([&](const Expr &channel, const Expr &row) { return a.q(channel, query_row(a, row), a.h, a.e, a.b); });
    // Tiles past the end are asked for ahead but not used.
    const Expr num_keys = a.k.dim(1).extent();
    const auto key = [&](const Expr &row) { return min(min(tile.key_tile, (num_keys - 1) / tile.keys) * tile.keys + row, num_keys - 1); };
    tile.define_keys([&](const Expr &channel, const Expr &row) { return a.k(channel, key(row), a.h, a.e, a.b); },
                     [&](const Expr &channel, const Expr &row) { return a.v(channel, key(row), a.h, a.e, a.b); });
}

// Masked keys, by a bit a key of the tile: of 32 keys, lane l asks for the one that is bit l, so that bits 8t.. are those of the
// columns of the lanes of member t, which then test bits 0.. by constants.
void define_masked(AttentionTensorCore &a) {
    const Var &lane = a.tile.lane, &warp = a.tile.warp, &nt = a.tile.nt, &key_tile = a.tile.key_tile, &e = a.e, &b = a.b;
    const Expr num_keys = a.k.dim(1).extent(), first_key = key_tile * a.tile.keys;
    constexpr int kTilesOfWord = kLanes / kTileColumns;
    const Expr in_word = lane % kTileColumns / 2 * kTileColumns + lane / kTileColumns * 2 + lane % 2;
    std::vector<Expr> words;
    Expr all;
    for (int first = 0; first < a.tile.keys; first += kLanes) {
        const Expr key = first_key + first + in_word;
        const Expr bits = ballot(key >= num_keys || a.mask(min(key, num_keys - 1), e, b) != 0);
        all = all.defined() ? all & bits : bits;
        words.push_back(pinned(bits >> cast<uint32_t>(member_of(lane) * kTileColumns)));
    }
    const int num_words = static_cast<int>(words.size());
    words.push_back(all);
    a.valid(lane, warp, key_tile, e, b) = Tuple(words);
    const FuncRef valid = a.valid(lane, warp, key_tile, e, b);
    std::vector<Expr> stored;
    stored.reserve(num_words);
    for (int i = 0; i < num_words; i++) {
        stored.emplace_back(valid[i]);
    }
    const Expr word_of_keys = num_words == 1 ? stored[0] : mux(nt / kTilesOfWord, stored);
    a.tile.define_hidden(valid[num_words] != UInt(32).max(), [&](const std::vector<Expr> &scores, const Expr &, const Expr &in_tile) {
        return select_by_bit(word_of_keys, nt % kTilesOfWord * 2 + in_tile % 2, scores, -std::numeric_limits<float>::infinity());
    });
}

// Keys beyond the last, which only the last tile has.
void define_beyond(AttentionTensorCore &a) {
    const Expr num_keys = a.k.dim(1).extent(), first_key = a.tile.key_tile * a.tile.keys;
    a.tile.define_hidden(first_key + a.tile.keys > num_keys, [&](const std::vector<Expr> &scores, const Expr &, const Expr &in_tile) {
        const Expr there = first_key + in_tile < num_keys;
        return std::vector<Expr>{shown(scores[0], there), shown(scores[1], there)};
    });
}

// The score of the null key is a plain sum in f32: it is one column, and its key is not rounded.
void define_null(AttentionTensorCore &a) {
    AttentionTile &tile = a.tile;
    const Var &lane = tile.lane, &warp = tile.warp, &mt = tile.mt;
    const int of_word = elements_of_word(tile.input), of_chunk = kWordsOfCopy * of_word;
    a.null_channels = RDom(0, of_chunk, 0, tile.row_chunks() / 4, "null_channels");
    const Expr first = (a.null_channels.y * 4 + member_of(lane)) * of_chunk, element = a.null_channels.x;
    const Expr row = query_row(a, tile.row_of_tile(group_of(lane) + 8 * a.half));
    const Expr query = unpack(a.q.type(), load_word(word(a.q(first, row, a.h, a.e, a.b)), element / of_word), element % of_word);
    tile.at_queries(a.null_part, {lane, warp, a.half, mt}) = 0.f;
    tile.at_queries(a.null_part, {lane, warp, a.half, mt}) += query * a.null_key(first + element, a.h, a.e);
    const auto whole = [&](int row_half) { return pinned(across_lanes(tile.at_queries(a.null_part, {lane, warp, row_half, mt}), plus)); };
    tile.at_queries(a.null_score, {lane, warp, mt}) = {whole(0), whole(1)};
}

void define_sums(AttentionTensorCore &a) {
    AttentionTile &tile = a.tile;
    const Expr null = a.has_null != 0, t = member_of(tile.lane);
    const Expr log2_scale = a.scale * 1.4426950408889634f;
    const FuncRef null_score = tile.at_queries(a.null_score, {tile.lane, tile.warp, tile.mt});
    std::vector<Expr> most, weight, first;
    for (int row_half = 0; row_half < 2; row_half++) {
        most.push_back(maximum(multiply_up(null_score[row_half], log2_scale), AttentionTile::kNothing));
        weight.push_back(exp2_approx(fused_multiply_add(null_score[row_half], log2_scale, -most[row_half])));
    }
    for (int i = 0; i < 4; i++) {
        const Expr statistic = i < 2 ? select(null && t == 0, weight[i], 0.f) : select(null, most[i - 2], AttentionTile::kNothing);
        const Expr channel = tile.channel_of(min(tile.slot, tile.outputs() - 1), 2 * t + i % 2);
        first.push_back(select(tile.slot < tile.outputs(), select(null, weight[i / 2] * a.null_value(channel, a.h, a.e), 0.f), statistic));
    }
    tile.define_sums(first, log2_scale, (a.k.dim(1).extent() + tile.keys - 1) / tile.keys);
    tile.define_inverse();
    const Var &h = a.h, &e = a.e, &b = a.b;
    tile.define_result({.keys = a.k.dim(1).extent(),
                        .log2_scale = log2_scale,
                        .query = [&](const Expr &channel, const Expr &row) { return a.q(channel, query_row(a, row), h, e, b); },
                        .key = [&](const Expr &channel, const Expr &key) { return a.k(channel, key, h, e, b); },
                        .value = [&](const Expr &channel, const Expr &key) { return a.v(channel, key, h, e, b); },
                        .visible = [&](const Expr &, const Expr &key) { return a.mask(key, e, b) != 0; },
                        .more = {},
                        .has_null = null,
                        .null_key = [&](const Expr &channel) { return a.null_key(channel, h, e); },
                        .null_value = [&](const Expr &channel) { return a.null_value(channel, h, e); }});
}

}  // namespace

AttentionTensorCore make_attention_tensor_core(Type storage, const Values &values) {
    AttentionTensorCore a;
    a.tile.read(storage, values);
    a.q = ImageParam(storage, 5, "q");
    a.k = ImageParam(storage, 5, "k");
    a.v = ImageParam(storage, 5, "v");
    allow_any_stride(a.mask, a.null_key, a.null_value);
    define_tiles(a);
    a.tile.define_products();
    define_beyond(a);
    if (values.get("masked", 1) != 0) {
        define_masked(a);
    }
    a.tile.define_top();
    define_null(a);
    define_sums(a);
    const int rows = a.tile.rows_of_block();
    a.out(a.d, a.i, a.h, a.e, a.b) = round_to(storage, a.tile.output(a.d, a.i % rows, {a.i / rows, a.h, a.e, a.b}));
    begin_at_zero(a.out);
    return a;
}

MOA_OPERATION(AttentionTensorCore, "attention", make_attention_tensor_core);

}  // namespace moa
