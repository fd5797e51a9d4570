#include "runtime/layers/attention_core.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace moa {

namespace {

// gamma [e, c] times weights [e, out, c].
void fold_expert_gains(std::vector<float> &weights, const std::vector<float> &gamma, int64_t experts, int64_t in) {
    const size_t block = weights.size() / static_cast<size_t>(experts);
    for (size_t index = 0; index < weights.size(); index++) {
        weights[index] *= gamma[index / block * static_cast<size_t>(in) + index % static_cast<size_t>(in)];
    }
}

struct KeyValues {
    Handle memory;
    std::function<View(const Frame &)> keys, values;  // d j h e b
};

KeyValues project_key_values(PlanBuilder &builder, const AttentionCore &core, const AttentionRequest &r) {
    const int64_t B = r.batch, E = core.experts, H = core.heads, M = r.keys.count;
    Product p{.name = "project keys and values", .linear = core.to_kv, .tokens = r.keys, .batch = B, .experts = E, .heads = 2 * H};
    p.norm = core.prenorm ? ops::Norm::rms : ops::Norm::none;
    p.rotary = r.key_rotary;
    p.rotary_heads = H;
    p.scale = r.key_value_scale;
    p.scale_heads = H;
    p.out = builder.temporary(builder.dtype(), {B, E, 2 * H, M, core.dim_head});
    project(builder, p);
    return {p.out, [out = p.out, H](const Frame &f) { return f[out].crop(2, 0, H); }, [out = p.out, H](const Frame &f) { return f[out].crop(2, H, H); }};
}

// Block j of the package's stacked projection comes from expert j / 2's tokens, half j % 2 of its weights; block e are
// the keys and block E + e the values of expert e, rotated and scaled as that expert's.
KeyValues project_crossed(PlanBuilder &builder, const AttentionCore &core, const AttentionRequest &r) {
    const int64_t B = r.batch, E = core.experts, H = core.heads, M = r.keys.count;
    const Handle out = builder.temporary(builder.dtype(), {B, 2 * E, H, M, core.dim_head});
    for (int64_t block = 0; block < 2 * E; block++) {
        const int64_t source = block / 2, expert = block % E;
        const bool keys = block < E;
        builder.project(
            "project keys and values", core.halves,
            [=](const Frame &f) {
                ops::Project a;
                a.x = r.keys.per_expert ? f[r.keys.x].pick(2, source) : f[r.keys.x];
                a.gather = static_cast<bool>(r.keys.rows);
                a.rows = a.gather ? f[r.keys.rows].crop(1, source, 1) : broadcast(ops::zero_i32(3), {M, 1, B});
                a.norm = core.prenorm ? ops::Norm::rms : ops::Norm::none;
                a.norm_dim = static_cast<int32_t>(a.x.extent(0));
                a.stats = !r.keys.stats ? broadcast(ops::zero_f32(3), {a.x.extent(1), 3, a.x.extent(2)}) : (r.keys.per_expert ? f[r.keys.stats].pick(2, source) : f[r.keys.stats]);
                a.out = f[out].crop(3, block, 1);
                a.cosines = a.sines = broadcast(ops::zero_f32(4), {core.dim_head, 1, 1, B});
                a.positions = broadcast(ops::zero_i32(3), {M, 1, B});
                if (r.key_rotary && keys) {
                    const View cosines = f[r.key_rotary.cosines], sines = f[r.key_rotary.sines], at = f[r.key_rotary.positions];
                    const bool own = r.key_rotary.per_expert;
                    a.cosines = own ? cosines.crop(2, expert, 1) : cosines.insert(2, {1, 0}).insert(3, {B, 0});
                    a.sines = own ? sines.crop(2, expert, 1) : sines.insert(2, {1, 0}).insert(3, {B, 0});
                    a.positions = at.rank == 1 ? at.insert(1, {1, 0}).insert(2, {B, 0}) : at.crop(1, expert, 1);
                    a.rotary_heads = static_cast<int32_t>(H);
                }
                a.scale_heads = static_cast<int32_t>(H);
                a.scale = r.key_value_scale ? f[r.key_value_scale].crop(2, expert, 1).crop(1, keys ? 0 : 1, 1) : broadcast(ops::one_f32(4), {M, 1, 1, B});
                return a;
            },
            block, 1);
    }
    return {out, [out, E](const Frame &f) { return f[out].crop(3, 0, E); }, [out, E](const Frame &f) { return f[out].crop(3, E, E); }};
}

}  // namespace

void AttentionCore::read(WeightReader &weights, const std::string &prefix) {
    const int64_t E = experts, H = heads, d = dim_head, inner = H * d;
    std::vector<float> q = weights.take(prefix + "to_q.weight", {E * inner, dim, 1});
    std::vector<float> kv = weights.take(prefix + "to_kv.weight", {E * 2 * inner, dim_context, 1});
    std::vector<float> out = weights.take(prefix + "to_out.weight", {E * dim, inner, 1});
    const auto gain = [&](const char *name, int64_t channels) { return prenorm ? weights.take(prefix + name, {E, channels, 1}) : std::vector<float>(); };
    const std::vector<float> gamma = gain("norm.gamma", dim), context_gamma = gain("context_norm.gamma", dim_context);
    const std::vector<float> null_kv = weights.take(prefix + "null_kv", {2, E, H, 1, d});
    if (!weights.ok()) {
        return;
    }
    if (prenorm) {
        fold_expert_gains(q, gamma, E, dim);
        fold_expert_gains(kv, context_gamma, E, dim_context);
    }
    const auto middle = null_kv.begin() + static_cast<std::ptrdiff_t>(null_kv.size() / 2);
    null_key = share(std::vector<float>(null_kv.begin(), middle));
    null_value = share(std::vector<float>(middle, null_kv.end()));
    to_q = std::make_shared<PreparedLinear>(E, inner, dim, std::move(q));
    if (crossed_key_values) {
        halves = std::make_shared<PreparedLinear>(2 * E, inner, dim_context, std::move(kv));
    } else {
        to_kv = std::make_shared<PreparedLinear>(E, 2 * inner, dim_context, std::move(kv));
    }
    to_out = std::make_shared<PreparedLinear>(E, dim, inner, std::move(out));
}

Handle attend(PlanBuilder &builder, const AttentionCore &core, const AttentionRequest &r, Handle result) {
    const int64_t B = r.batch, E = core.experts, H = core.heads, I = r.queries.count, M = r.keys.count, d = core.dim_head;
    Product q{.name = "project queries", .linear = core.to_q, .tokens = r.queries, .batch = B, .experts = E, .heads = H};
    q.norm = core.prenorm ? ops::Norm::rms : ops::Norm::none;
    q.rotary = r.query_rotary;
    q.rotary_heads = H;
    q.scale = r.query_scale;
    q.scale_heads = H;
    q.out = builder.temporary(builder.dtype(), {B, E, H, I, d});
    project(builder, q);
    const KeyValues kv = core.crossed_key_values ? project_crossed(builder, core, r) : project_key_values(builder, core, r);

    const Handle mixed = builder.temporary(builder.dtype(), {B, E, I, H, d});
    const Handle null_key = builder.constant(core.null_key, {E, H, d}), null_value = builder.constant(core.null_value, {E, H, d});
    builder.step("attention", [=, queries = q.out](const Frame &f) {
        ops::Attention a;
        a.q = f[queries];
        a.k = kv.keys(f);
        a.v = kv.values(f);
        a.mask = !r.mask ? broadcast(ops::one_u8(3), {M, E, B}) : (r.mask_per_expert ? f[r.mask] : f[r.mask].insert(1, {E, 0}));
        a.null_key = f[null_key];
        a.null_value = f[null_value];
        a.scale = 1 / std::sqrt(static_cast<float>(d));
        a.out = f[mixed].swap(1, 2);
        return a;
    });

    Product out{.name = "project outputs", .linear = core.to_out, .batch = B, .experts = E, .heads = 1};
    out.tokens.x = builder.reshape(mixed, {1, B * E * I, H * d});
    out.tokens.rows = builder.ramp({B, E, I});
    out.tokens.count = I;
    out.scale = r.output_scale;
    out.scale_heads = 1;
    out.out = result ? result : builder.temporary(builder.dtype(), {B, E, I, core.dim});
    project(builder, out);
    return out.out;
}

}  // namespace moa
