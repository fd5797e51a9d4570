#include "generators/local_attention_gpu.h"

#include "generators/finite.h"
#include "generators/math.h"
#include "generators/nvptx.h"

#include <algorithm>

namespace moa {

using namespace Halide;

std::vector<Func> LocalAttentionGpu::outputs() const {
    return {out};
}

namespace {

constexpr int kChannels = LocalAttentionGpu::kChannels;
constexpr float kLog2E = 1.4426950408889634f, kHidden = kLowest;

// A call's sizes, and where slots lie.
struct Places {
    int rows, block, key_tile;
    bool plain;
    Expr dim_head, length, windows, slots;

    Expr channel(const Expr &d) const {
        return min(d, dim_head - 1);
    }
    Expr inside(const Expr &position) const {
        return clamp(position, 0, length - 1);
    }
};

Expr position_of(const LocalAttentionGpu &a, const Expr &slot) {
    return (a.u - a.look_backward) * a.window + slot;
}

// For exact windows blocks are counted from the first slot that a tile's first row sees.
Expr slot_of(const LocalAttentionGpu &a, const Places &p, const Expr &block, const Expr &key) {
    return select(a.exact != 0, a.t * p.rows, 0) + block * p.block + key;
}

// What queries of the window may see, as far as the query does not matter.
Expr shown(const LocalAttentionGpu &a, const Places &p, const Expr &slot) {
    const Expr position = position_of(a, slot);
    const Expr unmasked = position < p.length && a.mask(p.inside(position), a.b) != 0;
    return slot < p.slots && position >= 0 && position < p.windows * a.window && (a.has_mask == 0 || unmasked);
}

void define_queries(LocalAttentionGpu &a, const Places &p) {
    const Var &i = a.i, &t = a.t, &u = a.u, &h = a.h, &b = a.b, &d = a.d;
    const Expr w = min(t * p.rows + i, a.window - 1), position = min(u * a.window + w, p.length - 1), slot = p.slots - a.window + w;
    Expr norm = 1.f;
    if (!p.plain) {
        a.query_channels = RDom(0, p.dim_head, "query_channel");
        a.query_channels.where(a.normalize_q != 0);
        const Expr x = as_f32(a.q(a.query_channels, position, h, b));
        a.query_squares(i, t, u, h, b) = 0.f;
        a.query_squares(i, t, u, h, b) += x * x;
        norm = select(a.normalize_q != 0, inverse_norm(a.query_squares(i, t, u, h, b)), 1.f);
    }
    const auto row = [&](const Expr &at) { return as_f32(a.q(at, position, h, b)) * (p.plain ? Expr(1.f) : norm * a.q_gain(at)); };
    const Expr c = p.channel(d);
    a.queries(i, d, t, u, h, b) = turn(row, p.dim_head, c, a.q_cos(c, slot), a.q_sin(c, slot)) * kLog2E;
}

LocalAttentionGpu::Pass make_pass(LocalAttentionGpu &a, const Places &p, const std::string &name) {
    const Var &i = a.i, &t = a.t, &key = a.key, &j = a.j, &d = a.d, &u = a.u, &h = a.h, &b = a.b;
    LocalAttentionGpu::Pass pass{Func("squares_" + name), Func("keys_" + name), Func("product_" + name), RDom(0, p.dim_head, "channel_" + name),
                                 RDom(0, p.dim_head, "square_channel_" + name)};
    const Expr slot = min(slot_of(a, p, j, key), p.slots - 1), position = position_of(a, slot), at = p.inside(position);
    Expr norm = 1.f;
    if (!p.plain) {
        const Expr normalized = a.normalize_k != 0 || a.shared_qk != 0;
        pass.square_channels.where(normalized);
        const Expr x = as_f32(a.k(pass.square_channels, at, h, b));
        pass.squares(key, j, t, u, h, b) = 0.f;
        pass.squares(key, j, t, u, h, b) += x * x;
        norm = select(normalized, inverse_norm(pass.squares(key, j, t, u, h, b)), 1.f);
    }
    const auto row = [&](const Expr &c) { return as_f32(a.k(c, at, h, b)) * (p.plain ? Expr(1.f) : norm * a.k_gain(c)); };
    const Expr c = p.channel(d);
    pass.keys(key, d, j, t, u, h, b) = select(position >= p.length, 0.f, turn(row, p.dim_head, c, a.k_cos(c, slot), a.k_sin(c, slot)));
    pass.product(i, key, j, t, u, h, b) = 0.f;
    pass.product(i, key, j, t, u, h, b) += a.queries(i, pass.channels, t, u, h, b) * pass.keys(key, pass.channels, j, t, u, h, b);
    return pass;
}

Expr visible(const LocalAttentionGpu &a, const Places &p, const Expr &slot) {
    constexpr int kFar = 1 << 28;
    const Expr w = a.t * p.rows + a.i, behind = a.look_backward * a.window, span = (a.look_backward + a.look_forward) * a.window;
    const Expr last_row = select(a.exact != 0, slot, kFar), first_row = slot - select(a.causal != 0, behind, a.exact != 0, span, kFar);
    return shown(a, p, slot) && w >= first_row && w <= last_row;
}

Expr score(const LocalAttentionGpu &a, const Places &p, const Func &product, const Expr &key, const Expr &block) {
    const Expr slot = slot_of(a, p, block, key), w = a.t * p.rows + a.i, behind = a.look_backward * a.window;
    Expr s = product(a.i, key, block, a.t, a.u, a.h, a.b);
    if (!p.plain) {
        const Expr added = a.bias(min(slot, p.slots - 1), min(w, a.window - 1), a.h);
        s = select(a.shared_qk != 0 && slot == behind + w, -5e4f * kLog2E, s + select(a.has_bias != 0, added, 0.f) * kLog2E);
    }
    return select(visible(a, p, slot), s, kHidden);
}

Expr blocks_of(const LocalAttentionGpu &a, const Places &p) {
    const Expr visited = select(a.exact != 0, p.rows + select(a.causal != 0, a.look_backward, a.look_backward + a.look_forward) * a.window, p.slots);
    return (visited + p.block - 1) / p.block;
}

void define_sums(LocalAttentionGpu &a, const Places &p) {
    const Var &i = a.i, &t = a.t, &key = a.key, &j = a.j, &d = a.d, &u = a.u, &h = a.h, &b = a.b, &c = a.c, &g = a.g;
    const Expr blocks = blocks_of(a, p);
    a.slot_keys = RDom(0, p.key_tile, 0, blocks, "slot_keys");
    a.largest(i, a.s, t, u, h, b) = kHidden;
    a.largest(i, a.s, t, u, h, b) = max(a.largest(i, a.s, t, u, h, b), score(a, p, a.first.product, a.s * p.key_tile + a.slot_keys.x, a.slot_keys.y));
    a.slots = RDom(0, p.block / p.key_tile, "slots");
    const Expr zeros = cast<float>(a.zero_keys);
    a.maximum(i, t, u, h, b) = select(zeros > 0.f, 0.f, kHidden);
    a.maximum(i, t, u, h, b) = max(a.maximum(i, t, u, h, b), a.largest(i, a.slots, t, u, h, b));

    a.weight(i, key, j, t, u, h, b) = exp2_approximate(score(a, p, a.second.product, key, j) - a.maximum(i, t, u, h, b));
    const Expr slot = slot_of(a, p, j, key), position = position_of(a, slot);
    a.values(d, key, j, t, u, h, b) = select(shown(a, p, slot) && position < p.length, as_f32(a.v(p.channel(d), p.inside(position), h, b)), 0.f);
    a.mix_keys = RDom(0, p.block, "mix_key");
    const Expr value = select(c < kChannels, a.values(g * kChannels + min(c, kChannels - 1), a.mix_keys, j, t, u, h, b), 1.f);
    a.mix(c, g, i, j, t, u, h, b) = 0.f;
    a.mix(c, g, i, j, t, u, h, b) += a.weight(i, a.mix_keys, j, t, u, h, b) * value;
    a.blocks = RDom(0, blocks, "block");
    a.sums(c, g, i, t, u, h, b) = select(c == kChannels && zeros > 0.f, zeros * exp2_approximate(-a.maximum(i, t, u, h, b)), 0.f);
    a.sums(c, g, i, t, u, h, b) += a.mix(c, g, i, a.blocks, t, u, h, b);

    // Needed where a mask hides every slot of a row, and only there. Slots outside of the sequence count as -1.
    a.mean_slots = RDom(0, p.slots, "mean_slot");
    a.mean_slots.where(a.has_mask != 0);
    const Expr from = position_of(a, a.mean_slots);
    const Expr of_slot = select(from < 0 || from >= p.windows * a.window, -1.f, from >= p.length, 0.f, as_f32(a.v(p.channel(d), p.inside(from), h, b)));
    a.mean(d, u, h, b) = -cast<float>(a.left_outside);
    a.mean(d, u, h, b) += of_slot;
}

// What is rare, as in attention_gpu.cpp: channels that are not finite are mixed again without the slots that are hidden from the
// row, and where no score is larger than a hidden one, it is found out whether any slot is visible.
void define_rare(LocalAttentionGpu &a, const Places &p) {
    const Var &i = a.i, &t = a.t, &d = a.d, &u = a.u, &h = a.h, &b = a.b;
    const Expr most = a.maximum(i, t, u, h, b), weights = a.sums(kChannels, d / kChannels, i, t, u, h, b);
    a.quotient(d, i, t, u, h, b) = a.sums(d % kChannels, d / kChannels, i, t, u, h, b) / weights;
    const Expr quotient = a.quotient(d, i, t, u, h, b);
    const Expr nothing = same_bits(most, kHidden), again = !is_finite_bits(quotient) && !is_nan_bits(weights);
    a.seen_slots = RDom(0, p.slots, "seen_slot");
    a.seen(i, t, u, h, b) = only_if(nothing, 0);
    a.seen(i, t, u, h, b) = select(visible(a, p, a.seen_slots), 1, a.seen(i, t, u, h, b));

    a.again_keys = RDom(0, p.block, 0, blocks_of(a, p), "again_key");
    const Expr slot = slot_of(a, p, a.again_keys.y, a.again_keys.x), position = position_of(a, slot);
    // Not to be understood by Halide, which would shorten the loop and lose sight of how much each step needs: no sum is NaN here.
    a.again_keys.where((visible(a, p, slot) && position < p.length) || is_nan_bits(weights));
    a.again_mix(d, i, t, u, h, b) = only_if(again, 0.f);
    a.again_mix(d, i, t, u, h, b) += exp2_approximate(score(a, p, a.again_product, a.again_keys.x, a.again_keys.y) - most) * as_f32(a.v(p.channel(d), p.inside(position), h, b));

    // Divided once, and again under the conditions only: each condition would divide anew.
    a.again_quotient(d, i, t, u, h, b) = only_if(again, a.again_mix(d, i, t, u, h, b) / weights);
    const Expr of_mean = a.mean(d, u, h, b) / cast<float>(p.slots + a.left_out);
    a.of_nothing(d, i, t, u, h, b) = only_if(nothing, select_bits(a.seen(i, t, u, h, b) != 0, nan_f32(), of_mean));
    const Expr mixed = select_bits(again, a.again_quotient(d, i, t, u, h, b), quotient);
    a.result(d, i, t, u, h, b) = select_bits(nothing, a.of_nothing(d, i, t, u, h, b), mixed);
}

void define_output(LocalAttentionGpu &a, const Places &p, Type storage) {
    const Var &u = a.u, &h = a.h, &b = a.b, &d = a.d;
    a.rows = RDom(0, p.rows, 0, (a.window + p.rows - 1) / p.rows, "row");
    const Expr row = a.rows.x, tile = a.rows.y, w = tile * p.rows + row, position = u * a.window + w;
    a.rows.where(w < a.window);
    a.rows.where(position < p.length);
    Expr result = a.result(d, row, tile, u, h, b);
    if (!p.plain) {
        const Expr gate = 1.f / (1.f + exp(-as_f32(a.gate(h, min(position, p.length - 1), b))));
        result = select(a.has_gate != 0, result * gate, result);
    }
    a.out(d, a.w, u, h, b) = undef(storage);
    a.out(d, min(w, a.window - 1), u, h, b) = as_stored(result, storage);
}

}  // namespace

LocalAttentionGpu make_local_attention_gpu(Type storage, const Values &values) {
    LocalAttentionGpu a;
    a.q = ImageParam(storage, 4, "q");
    a.k = ImageParam(storage, 4, "k");
    a.v = ImageParam(storage, 4, "v");
    a.gate = ImageParam(storage, 3, "gate");
    allow_any_stride(a.mask, a.bias, a.gate);
    const int head_dim = values.get("head_dim", 0);
    Places p{values("rows"), values("keys"), values("key_tile"), values.get("plain", 0) != 0, {}, {}, {}, {}};
    p.dim_head = head_dim == 0 ? a.q.dim(0).extent() : Expr(head_dim);
    p.length = a.q.dim(1).extent();
    p.windows = (p.length + a.window - 1) / a.window;
    p.slots = (a.look_backward + 1 + a.look_forward) * a.window;
    define_queries(a, p);
    a.first = make_pass(a, p, "first");
    a.second = make_pass(a, p, "second");
    const LocalAttentionGpu::Pass again = make_pass(a, p, "again");
    a.again_product = again.product;
    a.again_squares = again.squares;
    define_sums(a, p);
    define_rare(a, p);
    define_output(a, p, storage);
    begin_at_zero(a.out);
    return a;
}

MOA_OPERATION(LocalAttentionGpu, "local_attention", make_local_attention_gpu);

}  // namespace moa
