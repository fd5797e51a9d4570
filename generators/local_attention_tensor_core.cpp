#include "generators/local_attention_tensor_core.h"

#include "generators/math.h"

#include <stdexcept>

namespace moa {

using namespace Halide;
using namespace moa::tensor_core;

std::vector<Func> LocalAttentionTensorCore::outputs() const {
    return {out};
}

namespace {

// Where a window's queries look. The first slot is at position (u - look_backward) * window, which may be before the first;
// query w is slot look_backward * window + w and sees slots w to w + reach.
struct Places {
    int window;
    Expr length, first, ahead, reach;

    Places(const LocalAttentionTensorCore &a, int rows)
        : window(rows), length(a.q.dim(1).extent()), first((a.tile.query_tile - a.look_backward) * rows), ahead(select(a.causal != 0, 0, a.look_forward * rows)),
          reach(a.look_backward * rows + ahead) {
    }
};

void define_tiles(LocalAttentionTensorCore &a, const Places &p) {
    AttentionTile &tile = a.tile;
    tile.of_queries = tile.of_keys = {tile.query_tile, a.h, a.b};
    const auto query = [&](const Expr &row) { return min(tile.query_tile * p.window + row, p.length - 1); };
    tile.define_queries([&](const Expr &channel, const Expr &row) { return a.q(channel, query(row), a.h, a.b); });
    // Tiles past the end are asked for ahead but not used.
    const auto key = [&](const Expr &row) { return clamp(p.first + tile.key_tile * tile.keys + row, 0, p.length - 1); };
    tile.define_keys([&](const Expr &channel, const Expr &row) { return a.k(channel, key(row), a.h, a.b); },
                     [&](const Expr &channel, const Expr &row) { return a.v(channel, key(row), a.h, a.b); });
}

void define_hidden(LocalAttentionTensorCore &a, const Places &p) {
    AttentionTile &tile = a.tile;
    const Expr first_slot = tile.key_tile * tile.keys, last_slot = first_slot + tile.keys - 1;
    const Expr first_row = tile.warp * tile.rows_of_warp(), last_row = first_row + tile.rows_of_warp() - 1;
    const Expr all_shown = last_row <= first_slot && last_slot <= first_row + p.reach && p.first + first_slot >= 0 && p.first + last_slot < p.length;
    tile.define_hidden(!all_shown, [&](const std::vector<Expr> &scores, const Expr &row, const Expr &in_tile) {
        const Expr slot = first_slot + in_tile, position = p.first + slot;
        const auto in_reach = [&](const Expr &of) { return of <= slot && slot <= of + p.reach && position >= 0 && position < p.length; };
        return std::vector<Expr>{shown(scores[0], in_reach(row)), shown(scores[1], in_reach(row + 8))};
    });
}

void define_sums(LocalAttentionTensorCore &a, const Places &p) {
    AttentionTile &tile = a.tile;
    a.log2_scale(tile.lane, tile.warp, tile.query_tile, a.h, a.b) = a.q_cos(0, 0) * 1.4426950408889634f;
    const Expr log2_scale = a.log2_scale(tile.lane, tile.warp, tile.query_tile, a.h, a.b);
    std::vector<Expr> first;
    first.reserve(4);
    for (int i = 0; i < 4; i++) {
        first.push_back(select(tile.slot < tile.outputs() || i < 2, 0.f, AttentionTile::kNothing));
    }
    tile.define_sums(first, log2_scale, (p.window + p.reach) / tile.keys);

    // Positions that are zeros: those of the last window, as far as the query looks.
    const Expr end = (p.length + p.window - 1) / p.window * p.window;
    const FuncRef statistics = tile.at_queries(tile.sums, {tile.lane, tile.warp, tile.outputs(), tile.mt});
    const auto of_zeros = [&](const Expr &row, const Expr &most) {
        const Expr zeros = min(end, tile.query_tile * p.window + row + p.ahead + 1) - p.length;
        return select(zeros > 0, cast<float>(zeros) * exp2_approx(-most), 0.f);
    };
    std::vector<Expr> more;
    for (int row_half = 0; row_half < 2; row_half++) {
        more.push_back(of_zeros(tile.row_of_tile(group_of(tile.lane) + 8 * row_half), statistics[2 + row_half]));
    }
    tile.define_inverse(more);

    const Var &u = tile.query_tile, &h = a.h, &b = a.b;
    const auto position = [&](const Expr &slot) { return p.first + slot; };
    const auto inside = [&](const Expr &slot) { return clamp(position(slot), 0, p.length - 1); };
    tile.define_result({.keys = p.window + p.reach,
                        .log2_scale = log2_scale,
                        .query = [&](const Expr &channel, const Expr &row) { return a.q(channel, min(u * p.window + row, p.length - 1), h, b); },
                        .key = [&](const Expr &channel, const Expr &slot) { return a.k(channel, inside(slot), h, b); },
                        .value = [&](const Expr &channel, const Expr &slot) { return a.v(channel, inside(slot), h, b); },
                        .visible = [&](const Expr &row, const Expr &slot) { return row <= slot && slot <= row + p.reach && position(slot) >= 0 && position(slot) < p.length; },
                        .more = of_zeros,
                        .has_null = {},
                        .null_key = {},
                        .null_value = {}});
}

void define_out(LocalAttentionTensorCore &a, const Places &p, Type storage) {
    const Var &u = a.tile.query_tile, &h = a.h, &b = a.b;
    a.rows = RDom(0, a.tile.head_dim, 0, p.window, "row");
    a.rows.where(u * p.window + a.rows.y < p.length);
    a.out(a.d, a.w, u, h, b) = undef(storage);
    a.out(a.rows.x, a.rows.y, u, h, b) = round_to(storage, a.tile.output(a.rows.x, a.rows.y, {u, h, b}));
}

}  // namespace

LocalAttentionTensorCore make_local_attention_tensor_core(Type storage, const Values &values) {
    LocalAttentionTensorCore a;
    a.tile.read(storage, values);
    const int window = values("window");
    if (window != a.tile.rows_of_block() || window % a.tile.keys != 0) {
        throw std::runtime_error("a window must be a block's queries and a multiple of a tile's keys");
    }
    a.q = ImageParam(storage, 4, "q");
    a.k = ImageParam(storage, 4, "k");
    a.v = ImageParam(storage, 4, "v");
    a.gate = ImageParam(storage, 3, "gate");
    allow_any_stride(a.mask, a.bias, a.gate);
    const Places places(a, window);
    define_tiles(a, places);
    a.tile.define_products();
    define_hidden(a, places);
    a.tile.define_top();
    define_sums(a, places);
    define_out(a, places, storage);
    begin_at_zero(a.out);
    return a;
}

MOA_OPERATION(LocalAttentionTensorCore, "local_attention", make_local_attention_tensor_core);

}  // namespace moa
