#include "moa/attention.h"

#include "runtime/layers/attention_core.h"

#include <algorithm>

namespace moa {

struct Attention::Impl {
    Config config;
    AttentionCore core;
};

Attention::Attention(std::shared_ptr<const Impl> impl)
    : impl_(std::move(impl)) {
}

Result<Attention> Attention::create(const Config &config, const TensorMap &weights) try {
    auto impl = std::make_shared<Impl>();
    impl->config = config;
    Config &c = impl->config;
    c.dim_context = c.dim_context == 0 ? c.dim : c.dim_context;
    OptionCheck check("Attention");
    check.size("dim", c.dim).size("dim_context", c.dim_context).size("dim_head", c.dim_head).size("heads", c.heads).size("groups", c.groups);
    check.matrix("to_q.weight", {c.heads, c.dim_head, c.dim}).matrix("to_kv.weight", {2, c.heads, c.dim_head, c.dim_context});
    if (!check.status().ok()) {
        return check.status();
    }
    AttentionCore &core = impl->core;
    core.dim = c.dim;
    core.dim_context = c.dim_context;
    core.dim_head = c.dim_head;
    core.heads = c.heads;
    core.experts = c.groups;
    core.prenorm = c.prenorm;
    core.crossed_key_values = c.semantics == Semantics::reference && c.groups > 1;
    WeightReader reader(weights);
    core.read(reader, "");
    if (Status status = reader.finish(); !status) {
        return status;
    }
    return Attention(std::move(impl));
} catch (...) {
    return caught("Attention::create");
}

namespace {

// Per-expert tokens, with the statistics that the norm wants: one launch an expert, since x is any view.
TokenSource source_of(PlanBuilder &builder, const std::string &name, Handle x, bool norm, int64_t batch, int64_t experts, int64_t length) {
    TokenSource source{.x = x, .per_expert = true, .count = length};
    if (norm) {
        source.stats = builder.temporary(DType::f32, {batch, experts, 3, length});
        for (int64_t e = 0; e < experts; e++) {
            builder.step(name + " statistics", [=](const Frame &f) { return ops::RowStatistics{f[x].pick(2, e), f[source.stats].pick(2, e)}; });
        }
    }
    return source;
}

struct KeyMask {
    Handle mask{};  // [b, n] or [b, e, n]
    bool per_expert = false;

    const uint8_t *row(const Frame &f, int64_t b, int64_t e) const {
        const View row = per_expert ? f[mask].pick(2, b).pick(1, e) : f[mask].pick(1, b);
        return static_cast<const uint8_t *>(row.data);
    }
};

void scale_on_gpu(PlanBuilder &builder, const std::vector<Handle> &planes, Handle out, KeyMask hidden) {
    for (size_t place = 0; place < planes.size(); place++) {
        const auto plane = static_cast<int64_t>(place);
        const Handle given = planes[place];
        if (hidden.mask && place + 1 == planes.size()) {
            masked_factor(builder, "scales", [=](const Frame &f) {
                const View to = f[out].pick(1, plane);
                const View factor = given ? f[given] : broadcast(ops::one_f32(3), {to.extent(0), to.extent(1), to.extent(2)});
                return MaskedFactor{factor, hidden.per_expert ? f[hidden.mask] : f[hidden.mask].insert(1, {to.extent(1), 0}), to};
            });
            continue;
        }
        builder.host("scales", {given ? given : out, out}, [=](const Frame &f) {
            const View to = f[out].pick(1, plane);
            return given ? f.copy(f[given], to) : f.fill(to, 1.f);
        });
    }
}

// [b, e, n] factors as a product's scale [b, e, planes, n]; planes without an input are 1. What a mask hides is 0 in the last
// plane, that of the values: a masked key weighs nothing, but nothing times NaN is NaN.
Handle scale_planes(PlanBuilder &builder, std::vector<Handle> planes, int64_t batch, int64_t experts, int64_t length, KeyMask hidden = {}) {
    if (!hidden.mask && std::none_of(planes.begin(), planes.end(), [](Handle h) { return static_cast<bool>(h); })) {
        return {};
    }
    const Handle out = builder.temporary(DType::f32, {batch, experts, static_cast<int64_t>(planes.size()), length});
    if (builder.on_gpu()) {
        scale_on_gpu(builder, planes, out, hidden);
        return out;
    }
    for (size_t plane = 0; plane < planes.size(); plane++) {
        const Handle in = planes[plane] ? planes[plane] : out;
        const bool given = static_cast<bool>(planes[plane]), masked = hidden.mask && plane + 1 == planes.size();
        builder.host("scales", {in, out, masked ? hidden.mask : out}, [=](const Frame &f) {
            const View to = f[out].pick(1, static_cast<int64_t>(plane)), from = given ? f[in] : to;
            const int64_t mask_stride = masked ? f[hidden.mask].axes[0].stride : 0;
            for (int64_t b = 0; b < batch; b++) {
                for (int64_t e = 0; e < experts; e++) {
                    auto *target = static_cast<float *>(to.data) + b * to.axes[2].stride + e * to.axes[1].stride;
                    const auto *source = static_cast<const float *>(from.data) + b * from.axes[2].stride + e * from.axes[1].stride;
                    const uint8_t *shown = masked ? hidden.row(f, b, e) : nullptr;
                    for (int64_t n = 0; n < length; n++) {
                        const bool hides = masked && shown[n * mask_stride] == 0;
                        target[n] = hides ? 0.f : (given ? source[n] : 1.f);
                    }
                }
            }
            return Status();
        });
    }
    return out;
}

Rotary rotary_of(PlanBuilder &builder, Handle angles, int64_t batch, int64_t experts, int64_t length, int64_t dim_head) {
    Rotary rotary{.per_expert = true};
    rotary.cosines = builder.temporary(DType::f32, {batch, experts, length, dim_head});
    rotary.sines = builder.temporary(DType::f32, {batch, experts, length, dim_head});
    builder.repeated_step("rotary table", batch * experts, [=](const Frame &f, int64_t index) {
        const auto part = [&](Handle h) { return f[h].pick(3, index / experts).pick(2, index % experts); };
        return ops::RotaryTable{part(angles), part(rotary.cosines), part(rotary.sines)};
    });
    rotary.positions = builder.ramp({length});
    return rotary;
}

}  // namespace

Result<Plan> Attention::plan(const Shapes &s, const PlanOptions &options) const try {
    const Config &c = impl_->config;
    PlanBuilder builder(options);
    const bool self = s.keys < 0;
    if (self && c.dim_context != c.dim) {
        return invalid("Attention: self-attention needs dim_context {} to equal dim {}", c.dim_context, c.dim);
    }
    const int64_t B = s.batch, E = c.groups, N = s.queries, M = self ? N : s.keys;
    const DType f32 = DType::f32;
    const auto factor = [&](bool wanted, const char *name, int64_t length) { return wanted ? builder.input(name, f32, {B, E, length}) : Handle{}; };
    const Handle x = builder.input("x", builder.dtype(), {B, E, N, c.dim});
    const Handle context = self ? x : builder.input("context", builder.dtype(), {B, E, M, c.dim_context});
    AttentionRequest request{.batch = B};
    request.mask_per_expert = s.group_mask;
    if (s.mask) {
        request.mask = builder.input("mask", DType::boolean, s.group_mask ? std::vector<int64_t>{B, E, M} : std::vector<int64_t>{B, M});
    }
    const Handle queries_scale = factor(s.queries_scale, "queries_scale", N), keys_scale = factor(s.keys_scale, "keys_scale", M);
    const Handle values_scale = factor(s.values_scale, "values_scale", M), output_scale = factor(s.output_scale, "output_scale", N);
    const Handle q_angles = s.rotary ? builder.input("q_rotary_emb", f32, {B, E, N, c.dim_head}) : Handle{};
    const Handle k_angles = s.rotary ? builder.input("k_rotary_emb", f32, {B, E, M, c.dim_head}) : Handle{};
    const Handle out = builder.output("out", builder.dtype(), {B, E, N, c.dim});
    if (s.rotary && c.dim_head % 2 != 0) {
        return invalid("Attention: rotary positions need an even dim_head, not {}", c.dim_head);
    }
    if (!builder.ok()) {
        return builder.status();
    }
    request.queries = source_of(builder, "query", x, c.prenorm, B, E, N);
    request.keys = self ? request.queries : source_of(builder, "context", context, c.prenorm, B, E, M);
    if (s.rotary) {
        request.query_rotary = rotary_of(builder, q_angles, B, E, N, c.dim_head);
        request.key_rotary = rotary_of(builder, k_angles, B, E, M, c.dim_head);
    }
    request.query_scale = scale_planes(builder, {queries_scale}, B, E, N);
    request.key_value_scale = scale_planes(builder, {keys_scale, values_scale}, B, E, M, {request.mask, s.group_mask});
    request.output_scale = scale_planes(builder, {output_scale}, B, E, N);
    builder.keep(impl_);
    attend(builder, impl_->core, request, out);
    return builder.finish();
} catch (...) {
    return caught("Attention::plan");
}

}  // namespace moa
