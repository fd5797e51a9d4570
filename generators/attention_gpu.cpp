#include "generators/attention_gpu.h"

#include "generators/finite.h"
#include "generators/math.h"
#include "generators/nvptx.h"

namespace moa {

using namespace Halide;

std::vector<Func> AttentionGpu::outputs() const {
    return {out};
}

namespace {

constexpr int kChannels = AttentionGpu::kChannels;
constexpr float kBeyond = kLowest;  // as a score, and masked ones; weights beside any other are 0
const float kMasked = next_to_lowest();
// The sum of the weights of a row in which no score was larger than a hidden one.
constexpr uint32_t kNothingBits = 0xff800000;  // -infinity

struct Sizes {
    int rows, block, key_tile;
    Expr dim_head, num_queries, num_keys;

    Expr channel(const Expr &d) const {
        return min(d, dim_head - 1);
    }
    Expr key_row(const Expr &block_index, const Expr &key) const {
        return min(block_index * block + key, num_keys - 1);
    }
};

Expr score(const AttentionGpu &a, const Sizes &s, const AttentionGpu::Pass &pass, const Expr &key, const Expr &block) {
    const Expr valid = a.mask(s.key_row(block, key), a.e, a.b) != 0;
    return select(block * s.block + key >= s.num_keys, kBeyond, valid, pass.product(a.i, key, block, a.t, a.h, a.e, a.b), kMasked);
}

AttentionGpu::Pass make_pass(AttentionGpu &a, const Sizes &s, const std::string &name) {
    const Var &i = a.i, &t = a.t, &key = a.key, &j = a.j, &d = a.d, &h = a.h, &e = a.e, &b = a.b;
    AttentionGpu::Pass pass{Func("keys_" + name), Func("product_" + name), RDom(0, s.dim_head, "channel_" + name)};
    pass.keys(key, d, j, h, e, b) = as_f32(a.k(s.channel(d), s.key_row(j, key), h, e, b));
    pass.product(i, key, j, t, h, e, b) = 0.f;
    pass.product(i, key, j, t, h, e, b) += a.queries(i, pass.channels, t, h, e, b) * pass.keys(key, pass.channels, j, h, e, b);
    return pass;
}

// In units of log2.
Expr scaled_query(const AttentionGpu &a, const Expr &channel, const Expr &row, const Expr &h, const Expr &e, const Expr &b) {
    return as_f32(a.q(channel, row, h, e, b)) * (a.scale * 1.4426950408889634f);
}

void define_queries(AttentionGpu &a, const Sizes &s) {
    const Var &i = a.i, &t = a.t, &d = a.d, &h = a.h, &e = a.e, &b = a.b;
    a.queries(i, d, t, h, e, b) = scaled_query(a, s.channel(d), min(t * s.rows + i, s.num_queries - 1), h, e, b);
    a.null_channels = RDom(0, s.dim_head, "null_channel");
    a.null_score(i, t, h, e, b) = 0.f;
    a.null_score(i, t, h, e, b) += a.queries(i, a.null_channels, t, h, e, b) * a.null_key(a.null_channels, h, e);
}

void define_sums(AttentionGpu &a, const Sizes &s) {
    const Var &i = a.i, &t = a.t, &key = a.key, &j = a.j, &d = a.d, &h = a.h, &e = a.e, &b = a.b, &u = a.u, &g = a.g;
    const Expr null = a.has_null != 0, blocks = (s.num_keys + s.block - 1) / s.block;
    const int slots = s.block / s.key_tile;
    // A slot's keys of all blocks.
    a.slot_keys = RDom(0, s.key_tile, 0, blocks, "slot_keys");
    const Expr slot_key = a.s * s.key_tile + a.slot_keys.x;
    const Expr of_slot = score(a, s, a.first, slot_key, a.slot_keys.y);
    a.largest(i, a.s, t, h, e, b) = kBeyond;
    a.largest(i, a.s, t, h, e, b) = max(a.largest(i, a.s, t, h, e, b), of_slot);
    a.slots = RDom(0, slots, "slots");
    a.maximum(i, t, h, e, b) = select(null, a.null_score(i, t, h, e, b), kBeyond);
    a.maximum(i, t, h, e, b) = max(a.maximum(i, t, h, e, b), a.largest(i, a.slots, t, h, e, b));

    a.weight(i, key, j, t, h, e, b) = exp2_approximate(score(a, s, a.second, key, j) - a.maximum(i, t, h, e, b));
    a.values(d, key, j, h, e, b) = as_f32(a.v(s.channel(d), s.key_row(j, key), h, e, b));
    a.mix_keys = RDom(0, s.block, "mix_key");
    const auto with_one = [&](const Expr &value) { return select(u < kChannels, value, 1.f); };
    a.mix(u, g, i, j, t, h, e, b) = 0.f;
    a.mix(u, g, i, j, t, h, e, b) += a.weight(i, a.mix_keys, j, t, h, e, b) * with_one(a.values(g * kChannels + min(u, kChannels - 1), a.mix_keys, j, h, e, b));
    a.blocks = RDom(0, blocks, "block");
    const Expr null_weight = exp2_approximate(a.null_score(i, t, h, e, b) - a.maximum(i, t, h, e, b));
    const Expr null_term = null_weight * with_one(a.null_value(s.channel(g * kChannels + min(u, kChannels - 1)), h, e));
    const Expr most = a.maximum(i, t, h, e, b), nothing = same_bits(most, kMasked) || same_bits(most, kBeyond);
    a.sums(u, g, i, t, h, e, b) = select_bits(u == kChannels && nothing, reinterpret<float>(Expr(kNothingBits)), select(null, null_term, 0.f));
    a.sums(u, g, i, t, h, e, b) += a.mix(u, g, i, a.blocks, t, h, e, b);
}

// A row's product with a key, for one step of what is computed again, from memory: shared arrays that lived on to the output would
// take 63 KiB a block at heads of 64, where 48 are enough.
Expr again_product(AttentionGpu &a, const Sizes &s, Func &product, const Expr &key) {
    const Var &y = a.y, &h = a.h, &e = a.e, &b = a.b;
    const Expr channel = unsafe_promise_clamped(a.again_channels, 0, s.dim_head - 1);
    product(y, a.key, h, e, b) = 0.f;
    product(y, a.key, h, e, b) += scaled_query(a, channel, y, h, e, b) * as_f32(a.k(channel, a.key, h, e, b));
    return product(y, key, h, e, b);
}

// What is rare. A hidden key's value is multiplied by 0, which makes no number of NaN or infinity: channels that are not finite, though
// the sum of weights is no NaN, are mixed again without hidden keys. Where no score was larger than a hidden one, the mask is asked
// whether any key is visible: if so, their scores are -infinity, and so is the largest; if not, all keys weigh the same.
void define_rare(AttentionGpu &a, const Sizes &s) {
    const Var &y = a.y, &d = a.d, &h = a.h, &e = a.e, &b = a.b;
    const Expr i = y % s.rows, t = y / s.rows, null = a.has_null != 0, weights = a.sums(kChannels, d / kChannels, i, t, h, e, b);
    const Expr nothing = bits_of_f32(weights) == Expr(kNothingBits);
    const auto valid = [&](const Expr &key) { return a.mask(key, e, b) != 0; };
    a.seen_keys = RDom(0, s.num_keys, "seen_keys");
    a.seen(d, y, h, e, b) = only_if(nothing, select(null, 1, 0));
    a.seen(d, y, h, e, b) = select(valid(a.seen_keys), 1, a.seen(d, y, h, e, b));

    a.quotient(d, y, h, e, b) = a.sums(d % kChannels, d / kChannels, i, t, h, e, b) / weights;
    const Expr quotient = a.quotient(d, y, h, e, b);
    const Expr again = nothing || (!is_finite_bits(quotient) && !is_nan_bits(weights));
    // As many as there are, which LLVM does not know and hence does not unroll.
    a.again_channels = RDom(0, a.q.dim(0).extent(), "again_channels");
    const Expr channel = unsafe_promise_clamped(a.again_channels, 0, s.dim_head - 1);
    a.again_null(d, y, h, e, b) = only_if(again, 0.f);
    a.again_null(d, y, h, e, b) += scaled_query(a, channel, y, h, e, b) * a.null_key(channel, h, e);
    a.again_keys = RDom(0, s.num_keys, "again_keys");
    a.again_keys.where(nothing || valid(a.again_keys));
    const auto score = [&](Func &product) { return select(valid(a.again_keys), again_product(a, s, product, a.again_keys), kMasked); };
    a.again_most(d, y, h, e, b) = only_if(again, select(null, a.again_null(d, y, h, e, b), kBeyond));
    a.again_most(d, y, h, e, b) = max(a.again_most(d, y, h, e, b), score(a.again_products[0]));
    const Expr most = a.again_most(d, y, h, e, b), null_weight = select(null, exp2_approximate(a.again_null(d, y, h, e, b) - most), 0.f);
    a.again_sum(d, y, h, e, b) = only_if(again, null_weight);
    a.again_sum(d, y, h, e, b) += exp2_approximate(score(a.again_products[1]) - most);
    a.again_mix(d, y, h, e, b) = only_if(again, select(null, null_weight * a.null_value(s.channel(d), h, e), 0.f));
    a.again_mix(d, y, h, e, b) += exp2_approximate(score(a.again_products[2]) - most) * as_f32(a.v(s.channel(d), a.again_keys, h, e, b));

    // Divided once, and again under the condition only: each condition would divide anew.
    a.again_quotient(d, y, h, e, b) = only_if(again, a.again_mix(d, y, h, e, b) / a.again_sum(d, y, h, e, b));
    const Expr mixed = select_bits(again, a.again_quotient(d, y, h, e, b), quotient);
    a.result(d, y, h, e, b) = select_bits(nothing, select_bits(a.seen(d, y, h, e, b) != 0, nan_f32(), mixed), mixed);
}

}  // namespace

AttentionGpu make_attention_gpu(Type storage, const Values &values) {
    AttentionGpu a;
    a.q = ImageParam(storage, 5, "q");
    a.k = ImageParam(storage, 5, "k");
    a.v = ImageParam(storage, 5, "v");
    allow_any_stride(a.mask, a.null_key, a.null_value);
    const int head_dim = values.get("head_dim", 0);
    Sizes s{values("rows"), values("keys"), values("key_tile"), {}, a.q.dim(1).extent(), a.k.dim(1).extent()};
    s.dim_head = head_dim == 0 ? a.q.dim(0).extent() : Expr(head_dim);
    define_queries(a, s);
    a.first = make_pass(a, s, "first");
    a.second = make_pass(a, s, "second");
    define_sums(a, s);
    define_rare(a, s);
    a.out(a.d, a.y, a.h, a.e, a.b) = as_stored(a.result(a.d, a.y, a.h, a.e, a.b), storage);
    begin_at_zero(a.out);
    return a;
}

MOA_OPERATION(AttentionGpu, "attention", make_attention_gpu);

}  // namespace moa
