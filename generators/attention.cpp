#include "generators/attention.h"

#include "generators/finite.h"
#include "generators/math.h"
#include "generators/softmax.h"

#include <array>

namespace moa {

using namespace Halide;

std::vector<Func> Attention::outputs() const {
    return {out};
}

namespace {

struct Sizes {
    int rows, block, head_dim;
    Expr dim_head, num_queries, num_keys;
    bool any_head;
};

Expr log2_scale(const Attention &a) {
    return a.scale * 1.4426950408889634f;
}

// Tiles and blocks reach over the last query and key: their reads are held inside.
Expr query_row(const Attention &a, const Sizes &s) {
    return min(a.t * s.rows + a.i, s.num_queries - 1);
}

Expr key_row(const Sizes &s, const Expr &block, const Expr &key) {
    return min(block * s.block + key, s.num_keys - 1);
}

Expr head_channel(const Sizes &s, const Expr &d) {
    return s.any_head ? min(d, s.dim_head - 1) : d;
}

// What is the same whether products take one element or a pair: scores from products, and the recurrence.
void define_score(Attention &a, const Sizes &s, const Expr &product) {
    const Var &i = a.i, &key = a.key, &j = a.j, &t = a.t, &h = a.h, &e = a.e, &b = a.b;
    const Expr valid = a.mask(key_row(s, j, key), e, b) != 0;
    // A masked key counts where no key is valid, one beyond the last key never.
    a.score(i, key, j, t, h, e, b) = select(j * s.block + key >= s.num_keys, kLowest, valid, product, next_to_lowest());
    a.maximum_keys = RDom(0, s.block, "maximum_key");
    a.block_maximum(i, j, t, h, e, b) = kLowest;
    a.block_maximum(i, j, t, h, e, b) = max(a.block_maximum(i, j, t, h, e, b), a.score(i, a.maximum_keys, j, t, h, e, b));
}

// In the units of the scores. Pairs keep bf16 queries, which the scale is not in.
void define_null_score(Attention &a, const Sizes &s, bool pairs) {
    const Var &i = a.i, &t = a.t, &h = a.h, &e = a.e, &b = a.b;
    a.null_channels = RDom(0, s.dim_head, "null_channel");
    const Expr query = pairs ? cast<float>(a.q(a.null_channels, query_row(a, s), h, e, b)) : Expr(a.queries(i, a.null_channels, t, h, e, b));
    a.null_score(i, t, h, e, b) = 0.f;
    a.null_score(i, t, h, e, b) += query * a.null_key(a.null_channels, h, e);
}

template<class Exp2>
void define_state(Attention &a, const Sizes &s, const Expr &unit, Exp2 exp2) {
    const Var &i = a.i, &c = a.c, &t = a.t, &h = a.h, &e = a.e, &b = a.b;
    const Expr null = a.has_null != 0;
    a.state(i, c, t, h, e, b) = select(c == Attention::kMaximum, select(null, a.null_score(i, t, h, e, b), kLowest),
                                       c == Attention::kSum, select(null, 1.f, 0.f),
                                       c >= Attention::kOutput && null, a.null_value(clamp(c - Attention::kOutput, 0, s.dim_head - 1), h, e), 0.f);
    a.steps = RDom(0, s.dim_head + Attention::kOutput, 0, (s.num_keys + s.block - 1) / s.block, "step");
    const Expr row = a.steps.x, block = a.steps.y;
    const auto at = [&](const Expr &r) { return Expr(a.state(i, r, t, h, e, b)); };
    const Expr old_factor = at(Attention::kOldFactor), new_factor = at(Attention::kNewFactor), maximum = at(Attention::kMaximum);
    const Expr shift = a.block_maximum(i, block, t, h, e, b);
    const Expr merged = max(maximum, shift);
    // Strict: of a NaN, and the maximum with it, the difference would be folded to 0.
    const auto factor = [&](const Expr &of) { return exp2(strict_float(of - merged) * unit); };
    a.state(i, row, t, h, e, b) = select(row >= Attention::kOutput, at(row) * old_factor + a.mixed(i, max(row - Attention::kOutput, 0), block, t, h, e, b) * new_factor,
                                         row == Attention::kOldFactor, factor(maximum),
                                         row == Attention::kNewFactor, factor(shift),
                                         row == Attention::kSum, at(Attention::kSum) * old_factor + a.block_sum(i, block, t, h, e, b) * new_factor,
                                         merged);
}

// Weights and sums carry a NaN along; maxima may lose it. Of keys that are seen and whose scores are all infinite the largest score
// is infinite, or that of a masked key.
void define_out(Attention &a, const Sizes &s, Type storage) {
    const Var &y = a.y, &h = a.h, &e = a.e, &b = a.b, &d = a.d;
    const Expr null = a.has_null != 0;
    a.valid_keys = RDom(0, s.num_keys, "valid_key");
    a.valid_keys.where(!null);
    a.any_valid(e, b) = cast<uint8_t>(0);
    a.any_valid(e, b) = max(a.any_valid(e, b), a.mask(a.valid_keys, e, b));
    const auto at = [&](const Expr &row) { return Expr(a.state(y % s.rows, row, y / s.rows, h, e, b)); };
    const Expr maximum = at(Attention::kMaximum), seen = null || a.any_valid(e, b) != 0;
    const Expr infinite = !is_finite_bits(maximum) || (maximum <= next_to_lowest() && seen);
    a.out(d, y, h, e, b) = as_stored(select_bits(infinite, nan_f32(), at(d + Attention::kOutput) / at(Attention::kSum)), storage);
}

void define_single(Attention &a, const Sizes &s) {
    const Var &i = a.i, &key = a.key, &j = a.j, &t = a.t, &h = a.h, &e = a.e, &b = a.b, &d = a.d;
    // The scale goes into the queries, once.
    a.queries(i, d, t, h, e, b) = cast<float>(a.q(head_channel(s, d), query_row(a, s), h, e, b)) * log2_scale(a);
    a.keys(d, key, j, h, e, b) = cast<float>(a.k(head_channel(s, d), key_row(s, j, key), h, e, b));
    a.values(d, key, j, h, e, b) = cast<float>(a.v(head_channel(s, d), key_row(s, j, key), h, e, b));
    a.channels = RDom(0, s.dim_head, "channel");
    a.product(i, key, j, t, h, e, b) = 0.f;
    a.product(i, key, j, t, h, e, b) += a.queries(i, a.channels, t, h, e, b) * a.keys(a.channels, key, j, h, e, b);
    define_score(a, s, a.product(i, key, j, t, h, e, b));
    a.weight(i, key, j, t, h, e, b) = exp2_negative(a.score(i, key, j, t, h, e, b) - a.block_maximum(i, j, t, h, e, b));
    a.sum_keys = RDom(0, s.block, "sum_key");
    a.block_sum(i, j, t, h, e, b) = 0.f;
    a.block_sum(i, j, t, h, e, b) += a.weight(i, a.sum_keys, j, t, h, e, b);
    a.mix_keys = RDom(0, s.block, "mix_key");
    a.mix(i, d, j, t, h, e, b) = 0.f;
    a.mix(i, d, j, t, h, e, b) += a.weight(i, a.mix_keys, j, t, h, e, b) * a.values(d, a.mix_keys, j, h, e, b);
    a.mixed(i, d, j, t, h, e, b) = a.mix(i, d, j, t, h, e, b);
}

void define_pairs(Attention &a, const Sizes &s) {
    const Var &i = a.i, &key = a.key, &j = a.j, &t = a.t, &h = a.h, &e = a.e, &b = a.b, &d = a.d, &l = a.l, &k2 = a.k2;
    a.queries(l, i, d, t, h, e, b) = a.q(2 * d + l, query_row(a, s), h, e, b);
    a.channels = RDom(0, 2, 0, s.dim_head / 2, "channel");
    a.product(i, key, j, t, h, e, b) = 0.f;
    a.product(i, key, j, t, h, e, b) += cast<float>(a.queries(a.channels.x, i, a.channels.y, t, h, e, b)) *
                                        cast<float>(a.k(2 * a.channels.y + a.channels.x, key_row(s, j, key), h, e, b));
    define_score(a, s, a.product(i, key, j, t, h, e, b));
    // The scale would be lost to rounding in bf16 queries. It comes after the difference: fused into it, masked scores would
    // miss their own maximum by a rounding error.
    const Expr scale = log2_scale(a);
    const auto weight_of = [&](const Expr &k) { return round_bf16_up(exp2_negative_bf16((a.score(i, k, j, t, h, e, b) - a.block_maximum(i, j, t, h, e, b)) * scale)); };
    a.weight(l, i, k2, j, t, h, e, b) = mux(l, {weight_of(2 * k2), weight_of(2 * k2 + 1)});
    a.values(l, d, k2, j, h, e, b) = mux(l, {a.v(d, key_row(s, j, 2 * k2), h, e, b), a.v(d, key_row(s, j, 2 * k2 + 1), h, e, b)});
    // Rounded weights in the denominator as in the numerator.
    a.ones(l) = cast<bfloat16_t>(1.f + 0.f * l);
    a.sum_keys = RDom(0, 2, 0, s.block / 2, "sum_key");
    a.block_sum(i, j, t, h, e, b) = 0.f;
    a.block_sum(i, j, t, h, e, b) += cast<float>(a.weight(a.sum_keys.x, i, a.sum_keys.y, j, t, h, e, b)) * cast<float>(a.ones(a.sum_keys.x));
    a.mix_keys = RDom(0, 2, 0, s.block / 2, "mix_key");
    a.mix(i, d, j, t, h, e, b) = 0.f;
    a.mix(i, d, j, t, h, e, b) += cast<float>(a.weight(a.mix_keys.x, i, a.mix_keys.y, j, t, h, e, b)) *
                                  cast<float>(a.values(a.mix_keys.x, d, a.mix_keys.y, j, h, e, b));
    a.mixed(i, d, j, t, h, e, b) = a.mix(i, d, j, t, h, e, b);
}

// Products of matrix tiles. The shapes of the indices are those that Halide's compiler knows tiles by: pairs in two
// dimensions, what is reduced in one.
void define_tiles(Attention &a, const Sizes &s) {
    const Var &i = a.i, &key = a.key, &j = a.j, &t = a.t, &h = a.h, &e = a.e, &b = a.b, &d = a.d, &m = a.m, &x = a.x, &g = a.g;
    constexpr int kTile = Attention::kTile, kStep = Attention::kTileChannels;
    // Of the pair at place x of row g: its own row of the tile, its pair's number, its member.
    const auto place = [&](int pairs) { return std::array<Expr, 3>{g / pairs * kTile + x / 2, g % pairs, x % 2}; };

    const int channel_pairs = s.head_dim / 2, key_pairs = s.block / 2;
    const auto of_query = place(channel_pairs);
    a.queries(x, g, t, h, e, b) = a.q(2 * of_query[1] + of_query[2], min(t * s.rows + of_query[0], s.num_queries - 1), h, e, b);
    a.keys(d, key, j, h, e, b) = a.k(d, key_row(s, j, key), h, e, b);
    a.channels = RDom(0, kStep, 0, s.head_dim / kStep, "channel");
    const RVar channel = a.channels.x, step = a.channels.y;
    a.product(i, key, m, j, t, h, e, b) = 0.f;
    a.product(i, key, m, j, t, h, e, b) += cast<float>(a.keys(step * kStep + channel, key, j, h, e, b)) *
                                           cast<float>(a.queries(i * 2 + channel % 2, m * channel_pairs + step * (kStep / 2) + channel / 2, t, h, e, b));
    define_score(a, s, a.product(i % kTile, key, i / kTile, j, t, h, e, b));

    const Expr scale = log2_scale(a);
    const auto of_weight = place(key_pairs);
    const auto weight_of = [&](const Expr &k) {
        return round_bf16_up(exp2_negative_bf16((a.score(of_weight[0], k, j, t, h, e, b) - a.block_maximum(of_weight[0], j, t, h, e, b)) * scale));
    };
    a.weight(x, g, j, t, h, e, b) = mux(of_weight[2], {weight_of(2 * of_weight[1]), weight_of(2 * of_weight[1] + 1)});
    a.sum_keys = RDom(0, 2, 0, key_pairs, "sum_key");
    a.block_sum(i, j, t, h, e, b) = 0.f;
    a.block_sum(i, j, t, h, e, b) += cast<float>(a.weight(2 * (i % kTile) + a.sum_keys.x, i / kTile * key_pairs + a.sum_keys.y, j, t, h, e, b));

    a.value_rows(d, key, j, h, e, b) = a.v(d, key_row(s, j, key), h, e, b);
    a.values(key, d, j, h, e, b) = a.value_rows(d, key, j, h, e, b);
    a.mix_keys = RDom(0, kStep, 0, s.block / kStep, "mix_key");
    const RVar mix_key = a.mix_keys.x, mix_step = a.mix_keys.y;
    a.mix(i, d, m, j, t, h, e, b) = 0.f;
    a.mix(i, d, m, j, t, h, e, b) += cast<float>(a.values(mix_step * kStep + mix_key, d, j, h, e, b)) *
                                     cast<float>(a.weight(i * 2 + mix_key % 2, m * key_pairs + mix_step * (kStep / 2) + mix_key / 2, j, t, h, e, b));
    a.mixed(i, d, j, t, h, e, b) = a.mix(i % kTile, d, i / kTile, j, t, h, e, b);
}

}  // namespace

Attention make_attention(Type storage, const Values &values) {
    Attention a;
    a.q = ImageParam(storage, 5, "q");
    a.k = ImageParam(storage, 5, "k");
    a.v = ImageParam(storage, 5, "v");
    allow_any_stride(a.mask, a.null_key, a.null_value);
    const int head_dim = values.get("head_dim", 0);
    Sizes s{values.get("rows", 1), values.get("keys", 64), head_dim, {}, a.q.dim(1).extent(), a.k.dim(1).extent(), head_dim == 0};
    s.dim_head = head_dim == 0 ? a.q.dim(0).extent() : Expr(head_dim);
    if (values.get("tiles", 0) != 0 || values.get("pair", 1) == 2) {
        if (values.get("tiles", 0) != 0) {
            define_tiles(a, s);
        } else {
            define_pairs(a, s);
        }
        define_null_score(a, s, true);
        define_state(a, s, log2_scale(a), exp2_negative_bf16);
    } else {
        define_single(a, s);
        define_null_score(a, s, false);
        define_state(a, s, 1.f, exp2_negative);
    }
    define_out(a, s, storage);
    begin_at_zero(a.out);
    return a;
}

MOA_OPERATION(Attention, "attention", make_attention);

}  // namespace moa
