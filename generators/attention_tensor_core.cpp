#include "generators/attention_tensor_core.h"

#include "generators/math.h"

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

// Masked keys, by a bit a key of the tile, the same for all lanes.
void define_masked(AttentionTensorCore &a) {
    const Var &lane = a.tile.lane, &warp = a.tile.warp, &nt = a.tile.nt, &key_tile = a.tile.key_tile, &e = a.e, &b = a.b;
    const Expr num_keys = a.k.dim(1).extent(), first_key = key_tile * a.tile.keys;
    constexpr int kBits = 32;
    std::vector<Expr> bits;
    for (int first = 0; first < a.tile.keys; first += kBits) {
        const Expr one = first_key + first + lane;
        bits.push_back(ballot(one < num_keys && a.mask(min(one, num_keys - 1), e, b) != 0));
    }
    a.valid(lane, warp, key_tile, e, b) = Tuple(bits);
    std::vector<Expr> words;
    for (size_t i = 0; i < bits.size(); i++) {
        const FuncRef valid = a.valid(lane, warp, key_tile, e, b);
        words.push_back(bits.size() == 1 ? Expr(valid) : Expr(valid[static_cast<int>(i)]));
    }
    Expr all = words[0];
    for (size_t i = 1; i < words.size(); i++) {
        all = all & words[i];
    }
    const Expr word_of_keys = words.size() == 1 ? words[0] : mux(nt / (kBits / kTileColumns), words);
    a.tile.define_hidden(all != UInt(32).max(), [&](const Expr &score, const Expr &, const Expr &in_tile) {
        const Expr place = nt % (kBits / kTileColumns) * kTileColumns + (in_tile - nt * kTileColumns);
        return select(((word_of_keys >> cast<uint32_t>(place)) & 1) != 0, score, AttentionTile::kMasked);
    });
}

// Keys beyond the last, which only the last tile has.
void define_beyond(AttentionTensorCore &a) {
    const Expr num_keys = a.k.dim(1).extent(), first_key = a.tile.key_tile * a.tile.keys;
    a.tile.define_hidden(first_key + a.tile.keys > num_keys, [&](const Expr &score, const Expr &, const Expr &in_tile) {
        return select(first_key + in_tile < num_keys, score, AttentionTile::kBeyond);
    });
}

// The score of the null key is a plain sum in f32: it is one column, and its key is not rounded.
void define_null(AttentionTensorCore &a) {
    AttentionTile &tile = a.tile;
    const Var &lane = tile.lane, &warp = tile.warp, &mt = tile.mt;
    a.null_channels = RDom(0, tile.head_dim / 4, "null_channels");
    const Expr channel = member_of(lane) * (tile.head_dim / 4) + a.null_channels;
    const Expr row = query_row(a, tile.row_of_tile(group_of(lane) + 8 * a.half));
    tile.at_queries(a.null_part, {lane, warp, a.half, mt}) = 0.f;
    tile.at_queries(a.null_part, {lane, warp, a.half, mt}) += widen(a.q(channel, row, a.h, a.e, a.b)) * a.null_key(channel, a.h, a.e);
    const auto whole = [&](int row_half) { return pinned(across_lanes(tile.at_queries(a.null_part, {lane, warp, row_half, mt}), plus)); };
    tile.at_queries(a.null_score, {lane, warp, mt}) = {whole(0), whole(1)};
}

void define_sums(AttentionTensorCore &a) {
    AttentionTile &tile = a.tile;
    const Expr null = a.has_null != 0, t = member_of(tile.lane);
    const FuncRef null_score = tile.at_queries(a.null_score, {tile.lane, tile.warp, tile.mt});
    std::vector<Expr> first;
    for (int i = 0; i < 4; i++) {
        const Expr statistic = i < 2 ? select(null && t == 0, 1.f, 0.f) : select(null, Expr(null_score[i - 2]), AttentionTile::kBeyond);
        const Expr channel = tile.channel_of(min(tile.slot, tile.outputs() - 1), 2 * t + i % 2);
        first.push_back(select(tile.slot < tile.outputs(), select(null, a.null_value(channel, a.h, a.e), 0.f), statistic));
    }
    tile.define_sums(first, a.scale * 1.4426950408889634f, (a.k.dim(1).extent() + tile.keys - 1) / tile.keys);
    tile.define_inverse();
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
    if (values.get("masked", 1) != 0) {
        define_masked(a);
    }
    define_beyond(a);
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
