#include "generators/local_attention.h"

#include "generators/finite.h"
#include "generators/math.h"
#include "generators/softmax.h"

namespace moa {

using namespace Halide;

std::vector<Func> LocalAttention::outputs() const {
    return {out};
}

namespace {

constexpr float kLog2E = 1.4426950408889634f;

// A call's sizes, and where slots and rows lie.
struct Places {
    int rows, block;
    bool any_head, plain, pairs;
    Expr dim_head, length, windows, slots;

    Expr channel(const Expr &d) const {
        return any_head ? min(d, dim_head - 1) : d;
    }
};

Expr in_window(const LocalAttention &a, const Places &p) {
    return a.t * p.rows + a.i;
}

Expr slot_position(const LocalAttention &a, const Expr &slot) {
    return (a.u - a.look_backward) * a.window + slot;
}

Expr first_slot(const LocalAttention &a, const Places &p) {
    return select(a.exact != 0, a.t * p.rows, 0);
}

void define_shown(LocalAttention &a, const Places &p) {
    const Expr position = slot_position(a, a.s);
    const Expr in_sequence = position >= 0 && position < p.windows * a.window;
    const Expr unmasked = position < p.length && a.mask(clamp(position, 0, p.length - 1), a.b) != 0;
    a.shown(a.s, a.u, a.b) = cast<uint8_t>(a.s < p.slots && in_sequence && (a.has_mask == 0 || unmasked));
}

void define_queries(LocalAttention &a, const Places &p) {
    const Var &i = a.i, &t = a.t, &u = a.u, &h = a.h, &b = a.b, &d = a.d;
    const Expr w = min(in_window(a, p), a.window - 1);
    const Expr position = min(u * a.window + w, p.length - 1);
    const Expr slot = p.slots - a.window + w;
    Expr norm = 1.f;
    if (!p.plain) {
        a.query_channels = RDom(0, p.dim_head, "query_channel");
        a.query_channels.where(a.normalize_q != 0);
        const Expr x = cast<float>(a.q(a.query_channels, position, h, b));
        a.query_squares(i, t, u, h, b) = 0.f;
        a.query_squares(i, t, u, h, b) += x * x;
        norm = select(a.normalize_q != 0, inverse_norm(a.query_squares(i, t, u, h, b)), 1.f);
    }
    const auto row = [&](const Expr &at) { return cast<float>(a.q(at, position, h, b)) * (p.plain ? Expr(1.f) : norm * a.q_gain(at)); };
    const Expr c = p.channel(d);
    a.turned(d, i, t, u, h, b) = turn(row, p.dim_head, c, a.q_cos(c, slot), a.q_sin(c, slot)) * (p.pairs ? 1.f : kLog2E);
    if (p.pairs) {
        a.queries(a.l, i, d, t, u, h, b) = round_bf16(a.turned(2 * d + a.l, i, t, u, h, b));
    } else {
        a.queries(i, d, t, u, h, b) = a.turned(d, i, t, u, h, b);
    }
}

Expr hides_by_query(const LocalAttention &a) {
    return a.causal != 0 || a.exact != 0;
}

// Whether a query of the window sees a slot, as far as the mask does not matter, is whether it is one of `count` from `first` on.
struct Reach {
    Expr first, count;
};

Reach reach_of(const LocalAttention &a, const Expr &slot) {
    const Expr behind = a.look_backward * a.window, span = (a.look_backward + a.look_forward) * a.window;
    constexpr int kFar = 1 << 28;
    const Expr low = slot - select(a.causal != 0, behind, a.exact != 0, span, kFar);
    return {low, max(select(a.exact != 0, slot, kFar) - low + 1, 0)};
}

Expr sees(const LocalAttention &a, const Places &p, const Expr &slot) {
    const Reach reach = reach_of(a, slot);
    return a.shown(slot, a.u, a.b) != 0 && cast<uint32_t>(in_window(a, p) - reach.first) < cast<uint32_t>(reach.count);
}

// Values that are not finite are left out of the products, and added to what sees them. Few windows have any.
void define_not_finite(LocalAttention &a, const Places &p, const Expr &channel) {
    const Var &i = a.i, &t = a.t, &u = a.u, &h = a.h, &b = a.b, &d = a.d;
    const auto value_at = [&](const Expr &slot) {
        const Expr position = slot_position(a, slot);
        const Expr stored = as_f32(a.v(channel, clamp(position, 0, p.length - 1), h, b));
        return select_bits(a.shown(slot, u, b) != 0 && position < p.length, stored, 0.f);
    };
    a.value_slots = RDom(0, p.slots, "value_slot");
    a.value_slots.where(hides_by_query(a));
    a.largest_of_channel(d, u, h, b) = 0;
    a.largest_of_channel(d, u, h, b) = max(a.largest_of_channel(d, u, h, b), reinterpret<int>(value_at(a.value_slots)) & 0x7fffffff);
    a.value_channels = RDom(0, p.dim_head, "value_channel");
    a.largest_value(u, h, b) = 0;
    a.largest_value(u, h, b) = max(a.largest_value(u, h, b), a.largest_of_channel(a.value_channels, u, h, b));

    a.bad_slots = RDom(0, p.slots, "bad_slot");
    a.bad_slots.where(a.bad_slots < select(a.largest_value(u, h, b) >= 0x7f800000, p.slots, 0));
    a.bad_slots.where(sees(a, p, a.bad_slots));
    const Expr value = value_at(a.bad_slots);
    a.not_finite(d, i, t, u, h, b) = 0.f;
    a.not_finite(d, i, t, u, h, b) += select_bits(!is_finite_bits(value), value, 0.f);
}

void define_keys_and_values(LocalAttention &a, const Places &p, Type storage) {
    const Var &s = a.s, &u = a.u, &h = a.h, &b = a.b, &d = a.d;
    const Expr slot = min(s, p.slots - 1), at = clamp(slot_position(a, slot), 0, p.length - 1);
    Expr norm = 1.f;
    const Expr normalized = a.normalize_k != 0 || a.shared_qk != 0;
    if (!p.plain) {
        a.key_channels = RDom(0, p.dim_head, "key_channel");
        a.key_channels.where(normalized);
        const Expr x = cast<float>(a.k(a.key_channels, at, h, b));
        a.key_squares(s, u, h, b) = 0.f;
        a.key_squares(s, u, h, b) += x * x;
        norm = select(normalized, inverse_norm(a.key_squares(s, u, h, b)), 1.f);
    }
    const auto row = [&](const Expr &c) { return cast<float>(a.k(c, at, h, b)) * (p.plain ? Expr(1.f) : norm * a.k_gain(c)); };
    const Expr c = p.channel(d);
    const Expr key = select(slot_position(a, slot) >= p.length, 0.f, turn(row, p.dim_head, c, a.k_cos(c, slot), a.k_sin(c, slot)));
    a.keys(d, s, u, h, b) = p.pairs ? round_bf16(key) : key;

    const auto value = [&](const Expr &of) {
        const Expr from = slot_position(a, of);
        const Expr stored = a.v(c, clamp(from, 0, p.length - 1), h, b);
        // A weight of 0 would not keep what is not finite from queries that a causal or exact window hides it from.
        const Expr seen = a.shown(of, u, b) != 0 && from < p.length && !(hides_by_query(a) && !is_finite_bits(as_f32(stored)));
        return p.pairs ? select(seen, stored, cast(storage, 0)) : select(seen, cast<float>(stored), 0.f);
    };
    if (p.pairs) {
        a.values(a.l, d, s, u, h, b) = mux(a.l, {value(2 * s), value(2 * s + 1)});
    } else {
        a.values(d, s, u, h, b) = value(s);
    }
    define_not_finite(a, p, c);
    // Needed where a mask hides every slot of a row, and only there.
    a.mean_slots = RDom(0, p.slots, "mean_slot");
    a.mean_slots.where(a.has_mask != 0);
    const Expr position = slot_position(a, a.mean_slots);
    const Expr of_slot = select(position < 0 || position >= p.windows * a.window, -1.f, position >= p.length, 0.f,
                                cast<float>(a.v(c, clamp(position, 0, p.length - 1), h, b)));
    a.mean(d, u, h, b) = -cast<float>(a.left_outside);
    a.mean(d, u, h, b) += of_slot;
}

void define_score(LocalAttention &a, const Places &p) {
    const Var &i = a.i, &key = a.key, &j = a.j, &t = a.t, &u = a.u, &h = a.h, &b = a.b;
    const Expr slot = first_slot(a, p) + j * p.block + key;
    const Expr w = in_window(a, p), behind = a.look_backward * a.window;
    const Reach reach = reach_of(a, slot);
    a.first_row(key, j, t) = reach.first;
    a.row_count(key, j, t, u, b) = select(a.shown(slot, u, b) != 0, reach.count, 0);
    const Expr visible = cast<uint32_t>(w - a.first_row(key, j, t)) < cast<uint32_t>(a.row_count(key, j, t, u, b));
    Expr s = a.product(i, key, j, t, u, h, b);
    if (!p.plain) {
        const Expr added = a.bias(min(slot, p.slots - 1), min(w, a.window - 1), h);
        s = select(a.shared_qk != 0 && slot == behind + w, -5e4f * (p.pairs ? 1.f : kLog2E), s + select(a.has_bias != 0, added, 0.f) * (p.pairs ? 1.f : kLog2E));
    }
    a.score(i, key, j, t, u, h, b) = select(visible, s, kLowest);
    a.maximum_keys = RDom(0, p.block, "maximum_key");
    a.block_maximum(i, j, t, u, h, b) = kLowest;
    a.block_maximum(i, j, t, u, h, b) = max(a.block_maximum(i, j, t, u, h, b), a.score(i, a.maximum_keys, j, t, u, h, b));
}

void define_single(LocalAttention &a, const Places &p) {
    const Var &i = a.i, &key = a.key, &j = a.j, &t = a.t, &u = a.u, &h = a.h, &b = a.b, &d = a.d;
    const Expr base = first_slot(a, p) + j * p.block;
    a.channels = RDom(0, p.dim_head, "channel");
    a.product(i, key, j, t, u, h, b) = 0.f;
    a.product(i, key, j, t, u, h, b) += a.queries(i, a.channels, t, u, h, b) * a.keys(a.channels, min(base + key, p.slots - 1), u, h, b);
    define_score(a, p);
    a.weight(i, key, j, t, u, h, b) = exp2_negative(a.score(i, key, j, t, u, h, b) - a.block_maximum(i, j, t, u, h, b));
    a.sum_keys = RDom(0, p.block, "sum_key");
    a.block_sum(i, j, t, u, h, b) = 0.f;
    a.block_sum(i, j, t, u, h, b) += a.weight(i, a.sum_keys, j, t, u, h, b);
    a.mix_keys = RDom(0, p.block, "mix_key");
    a.mix(i, d, j, t, u, h, b) = 0.f;
    a.mix(i, d, j, t, u, h, b) += a.weight(i, a.mix_keys, j, t, u, h, b) * a.values(d, min(base + a.mix_keys, p.slots - 1), u, h, b);
}

void define_pairs(LocalAttention &a, const Places &p) {
    const Var &i = a.i, &key = a.key, &j = a.j, &t = a.t, &u = a.u, &h = a.h, &b = a.b, &d = a.d, &l = a.l, &k2 = a.k2;
    const Expr base = first_slot(a, p) + j * p.block;  // even: tiles and blocks are
    a.channels = RDom(0, 2, 0, p.dim_head / 2, "channel");
    a.product(i, key, j, t, u, h, b) = 0.f;
    a.product(i, key, j, t, u, h, b) += cast<float>(a.queries(a.channels.x, i, a.channels.y, t, u, h, b)) *
                                        cast<float>(a.keys(2 * a.channels.y + a.channels.x, min(base + key, p.slots - 1), u, h, b));
    define_score(a, p);
    const auto weight_of = [&](const Expr &k) { return round_bf16_up(exp2_negative_bf16((a.score(i, k, j, t, u, h, b) - a.block_maximum(i, j, t, u, h, b)) * kLog2E)); };
    a.weight(l, i, k2, j, t, u, h, b) = mux(l, {weight_of(2 * k2), weight_of(2 * k2 + 1)});
    a.ones(l) = cast<bfloat16_t>(1.f + 0.f * l);
    a.sum_keys = RDom(0, 2, 0, p.block / 2, "sum_key");
    a.block_sum(i, j, t, u, h, b) = 0.f;
    a.block_sum(i, j, t, u, h, b) += cast<float>(a.weight(a.sum_keys.x, i, a.sum_keys.y, j, t, u, h, b)) * cast<float>(a.ones(a.sum_keys.x));
    a.mix_keys = RDom(0, 2, 0, p.block / 2, "mix_key");
    a.mix(i, d, j, t, u, h, b) = 0.f;
    a.mix(i, d, j, t, u, h, b) += cast<float>(a.weight(a.mix_keys.x, i, a.mix_keys.y, j, t, u, h, b)) *
                                  cast<float>(a.values(a.mix_keys.x, d, min(base / 2 + a.mix_keys.y, (p.slots - 1) / 2), u, h, b));
}

void define_state(LocalAttention &a, const Places &p) {
    const Var &i = a.i, &c = a.c, &t = a.t, &u = a.u, &h = a.h, &b = a.b, &d = a.d, &j = a.j;
    a.mixed(i, d, j, t, u, h, b) = a.mix(i, d, j, t, u, h, b);
    const float unit = p.pairs ? kLog2E : 1.f;
    const Expr visited = select(a.exact != 0, p.rows + select(a.causal != 0, a.look_backward, a.look_backward + a.look_forward) * a.window, p.slots);
    const Expr zeros = cast<float>(a.zero_keys);
    a.state(i, c, t, u, h, b) = select(c == LocalAttention::kMaximum, select(zeros > 0.f, 0.f, kLowest), c == LocalAttention::kSum, zeros, 0.f);
    a.steps = RDom(0, p.dim_head + LocalAttention::kOutput, 0, (visited + p.block - 1) / p.block, "step");
    const Expr row = a.steps.x, block = a.steps.y;
    const auto at = [&](const Expr &r) { return Expr(a.state(i, r, t, u, h, b)); };
    const Expr maximum = at(LocalAttention::kMaximum), shift = a.block_maximum(i, block, t, u, h, b);
    const Expr merged = max(maximum, shift);
    a.state(i, row, t, u, h, b) = select(row >= LocalAttention::kOutput,
                                         at(row) * at(LocalAttention::kOldFactor) + a.mixed(i, max(row - LocalAttention::kOutput, 0), block, t, u, h, b) * at(LocalAttention::kNewFactor),
                                         row == LocalAttention::kOldFactor, exp2_negative((maximum - merged) * unit),
                                         row == LocalAttention::kNewFactor, exp2_negative((shift - merged) * unit),
                                         row == LocalAttention::kSum, at(LocalAttention::kSum) * at(LocalAttention::kOldFactor) + a.block_sum(i, block, t, u, h, b) * at(LocalAttention::kNewFactor),
                                         merged);
}

// Nothing is above the score of what is hidden in a row that sees nothing, or nothing but infinite scores.
void define_seen(LocalAttention &a, const Places &p) {
    const Var &i = a.i, &t = a.t, &u = a.u, &h = a.h, &b = a.b;
    a.any_slots = RDom(0, p.slots, "any_slot");
    a.any_slots.where(a.has_mask != 0);
    a.any_shown(u, b) = cast<uint8_t>(0);
    a.any_shown(u, b) = max(a.any_shown(u, b), a.shown(a.any_slots, u, b));
    a.all_hidden(i, t, u, h, b) = reinterpret<int>(Expr(a.state(i, LocalAttention::kMaximum, t, u, h, b))) == reinterpret<int>(Expr(kLowest));
    a.seen_slots = RDom(0, p.slots, "seen_slot");
    a.seen_slots.where(a.seen_slots < select(a.any_shown(u, b) != 0 && a.all_hidden(i, t, u, h, b), p.slots, 0));
    a.seen(i, t, u, h, b) = select(a.has_mask != 0, 0, 1);
    a.seen(i, t, u, h, b) = max(a.seen(i, t, u, h, b), select(sees(a, p, a.seen_slots), 1, 0));
}

void define_output(LocalAttention &a, const Places &p, Type storage) {
    const Var &i = a.i, &t = a.t, &u = a.u, &h = a.h, &b = a.b, &d = a.d;
    const auto at = [&](const Expr &r) { return Expr(a.state(i, r, t, u, h, b)); };
    const Expr of_nothing = select_bits(a.seen(i, t, u, h, b) != 0, nan_f32(), a.mean(d, u, h, b) / cast<float>(p.slots + a.left_out));
    Expr result = select_bits(a.all_hidden(i, t, u, h, b), of_nothing, at(d + LocalAttention::kOutput) / at(LocalAttention::kSum) + a.not_finite(d, i, t, u, h, b));
    if (!p.plain) {
        const Expr gate = sigmoid(as_f32(a.gate(h, min(u * a.window + in_window(a, p), p.length - 1), b)));
        result = select_bits(a.has_gate != 0, result * gate, result);
    }
    a.row(d, i, t, u, h, b) = as_stored(result, storage);
    a.rows = RDom(0, p.rows, 0, (a.window + p.rows - 1) / p.rows, "row");
    const Expr w = a.rows.y * p.rows + a.rows.x;
    a.rows.where(w < a.window);
    a.rows.where(u * a.window + w < p.length);
    a.out(d, a.w, u, h, b) = undef(storage);
    a.out(d, min(w, a.window - 1), u, h, b) = a.row(d, a.rows.x, a.rows.y, u, h, b);
}

}  // namespace

LocalAttention make_local_attention(Type storage, const Values &values) {
    LocalAttention a;
    a.q = ImageParam(storage, 4, "q");
    a.k = ImageParam(storage, 4, "k");
    a.v = ImageParam(storage, 4, "v");
    a.gate = ImageParam(storage, 3, "gate");
    allow_any_stride(a.mask, a.bias, a.gate);
    const int head_dim = values.get("head_dim", 0);
    Places p{values.get("rows", 1), values.get("keys", 32), head_dim == 0, values.get("plain", 0) != 0, values.get("pair", 1) == 2, {}, {}, {}, {}};
    p.dim_head = head_dim == 0 ? a.q.dim(0).extent() : Expr(head_dim);
    p.length = a.q.dim(1).extent();
    p.windows = (p.length + a.window - 1) / a.window;
    p.slots = (a.look_backward + 1 + a.look_forward) * a.window;
    define_shown(a, p);
    define_queries(a, p);
    define_keys_and_values(a, p, storage);
    if (p.pairs) {
        define_pairs(a, p);
    } else {
        define_single(a, p);
    }
    define_state(a, p);
    define_seen(a, p);
    define_output(a, p, storage);
    begin_at_zero(a.out);
    return a;
}

MOA_OPERATION(LocalAttention, "local_attention", make_local_attention);

}  // namespace moa
