#include "runtime/layers/mixture_sequence.h"

#include <algorithm>
#include <utility>

namespace moa {

Status MixtureSequence::check() const {
    if (!self_ && (c_.local_attn || s_.rotary)) {
        return invalid("MixtureOfAttention: cross-attention takes no {}", c_.local_attn ? "local branch" : "rotary positions");
    }
    if (self_ && c_.dim_context != c_.dim) {
        return invalid("MixtureOfAttention: self-attention needs dim_context {} to equal dim {}", c_.dim_context, c_.dim);
    }
    if (self_ && s_.context_mask) {
        return invalid("MixtureOfAttention: self-attention takes mask, not context_mask");
    }
    if (s_.rotary && c_.dim_head % 2 != 0) {
        return invalid("MixtureOfAttention: rotary positions need an even dim_head, not {}", c_.dim_head);
    }
    for (const Side *side : {&queries_, &keys_}) {
        if (side->k < 1) {
            return invalid("MixtureOfAttention: {} routed {} tokens, must be at least 1", side->k, side->name);
        }
        if (side->impose && !side->routed) {
            return invalid("MixtureOfAttention: {} routes are imposed, but {} positions with {} routed are not routed", side->name, side->length, side->k);
        }
        if (!side->routed) {
            continue;
        }
        const Result<Blocks> blocks = blocks_of(c_, side->length, side->k);
        if (!blocks.ok()) {
            return blocks.status();
        }
        if (reference_ && blocks->count > 1) {
            return {Code::unsupported, "semantics reference: the package fails when it routes more than one block"};
        }
    }
    return {};
}

void MixtureSequence::declare_arguments() {
    const DType dtype = builder.dtype();
    const auto routed_count = [&](const Side &side) {
        const Result<Blocks> blocks = blocks_of(c_, side.length, side.k);
        return blocks->count * blocks->k;
    };
    queries_.x = builder.input("x", dtype, {B_, queries_.length, c_.dim});
    keys_.x = self_ ? queries_.x : builder.input("context", dtype, {B_, keys_.length, c_.dim_context});
    if (s_.mask) {
        queries_.mask = builder.input("mask", DType::boolean, {B_, queries_.length});
    }
    keys_.mask = self_ ? queries_.mask : (s_.context_mask ? builder.input("context_mask", DType::boolean, {B_, keys_.length}) : Handle{});
    if (s_.rotary) {
        angles_ = builder.input("rotary_emb", DType::f32, {queries_.length, c_.dim_head});
    }
    out_ = builder.output("out", dtype, {B_, queries_.length, c_.dim});
    for (Side *side : {&queries_, &keys_}) {
        if (side->routed) {
            const int64_t count = routed_count(*side);
            if (side->impose) {
                side->imposed = builder.input(side == &queries_ ? "imposed_queries" : "imposed_key_values", DType::i64, {B_, E_, count});
            }
            side->indices_out = builder.output(side->name + "_indices", DType::i64, {B_, E_, count}, true);
            side->similarities_out = builder.output(side->name + "_similarities", DType::f32, {B_, E_, side->length}, true);
        }
    }
}

Handle MixtureSequence::similarities_of(const std::string &name, Handle x, const Floats &tokens, int64_t routers, int64_t dim, int64_t length, Handle stats) {
    const Handle similarities = builder.temporary(DType::f32, {B_, routers, length});
    const Handle weights = builder.constant(tokens, {routers, dim});
    const float cosine = c_.cosine_sim_routing ? static_cast<float>(c_.cosine_sim_scale) : 0.f;
    builder.step(name, [=, batch = B_](const Frame &f) {
        return ops::RouterScores{f[x], f[weights].insert(2, {batch, 0}), cosine, f[similarities], f[stats]};
    });
    return similarities;
}

void MixtureSequence::statistics_of(Side &side) {
    if (c_.prenorm) {
        builder.step(side.name + " row statistics", [x = side.x, stats = side.stats](const Frame &f) { return ops::RowStatistics{f[x], f[stats]}; });
    }
}

// Similarities, and with them the statistics that the norms want: in self-attention one pass over x serves both sides.
void MixtureSequence::score(const Floats &query_tokens, const Floats &key_value_tokens, const Floats &all_tokens) {
    queries_.stats = builder.temporary(DType::f32, {B_, 3, queries_.length});
    keys_.stats = self_ ? queries_.stats : builder.temporary(DType::f32, {B_, 3, keys_.length});
    if (self_ && queries_.routed && keys_.routed) {
        queries_.similarities = keys_.similarities = similarities_of("router scores", queries_.x, all_tokens, 2 * E_, c_.dim, queries_.length, queries_.stats);
        keys_.first_router = E_;
        return;
    }
    for (Side *side : {&queries_, &keys_}) {
        const bool is_query = side == &queries_;
        if (side->routed) {
            side->similarities = similarities_of(side->name + " router scores", side->x, is_query ? query_tokens : key_value_tokens, E_,
                                                 is_query ? c_.dim : c_.dim_context, side->length, side->stats);
        } else if (!self_ || (is_query && !keys_.routed)) {
            statistics_of(*side);
        }
    }
}

void MixtureSequence::select_side(Side &side) {
    if (!side.routed) {
        return;
    }
    RoutingRequest request{.name = "select " + side.name + " tokens", .options = c_, .batch = B_, .length = side.length, .routers = E_, .k = side.k};
    request.similarities = side.similarities;
    request.first_router = side.first_router;
    request.mask = side.mask;
    request.imposed = side.imposed;
    request.source_div = reference_ ? E_ : 1;
    request.rank_order = reference_;
    take(side, route(builder, request));
}

void MixtureSequence::take(Side &side, Routing routing) {
    side.routing = routing;
    side.count = routing.tokens;
    write_indices(builder, routing.indices, side.indices_out);
    write_copy(builder, side.similarities, side.similarities_out, side.first_router);
}

// One selection for both sides of self-attention, where a launch costs more than the work: their routers stand side by
// side already.
bool MixtureSequence::select_both() {
    Side &q = queries_, &k = keys_;
    if (!builder.on_gpu() || !self_ || !q.routed || !k.routed || q.imposed || k.imposed || q.k != k.k) {
        return false;
    }
    RoutingRequest request{.name = "select query and key_value tokens", .options = c_, .batch = B_, .length = q.length, .routers = 2 * E_, .k = q.k};
    request.similarities = q.similarities;
    request.mask = q.mask;
    request.source_div = reference_ ? E_ : 1;
    request.rank_order = reference_;
    const Routing both = route(builder, request);
    for (Side *side : {&q, &k}) {
        const auto half = [&](Handle whole) { return whole ? builder.crop(whole, 1, side->first_router, E_) : Handle{}; };
        take(*side, {both.tokens, half(both.indices), half(both.scores), half(both.valid), half(both.slots), half(both.rows), half(both.soft_scores)});
    }
    return true;
}

void MixtureSequence::select() {
    if (select_both()) {
        return;
    }
    select_side(queries_);
    select_side(keys_);
}

// A factor for each row, 1 or its score, and exactly 0 where it is masked, in the last plane of [b, e, planes, count];
// the planes before it are 1. None if nothing is scaled.
Handle MixtureSequence::row_scale(const Side &side, int64_t planes) {
    if (!side.mask && !(side.routed && !c_.straight_through)) {
        return {};
    }
    // As they are. Of several planes only if what has a score of 0 is masked in attention, where such keys may be anything.
    const bool masked_or_one = c_.straight_through && !reference_;
    if (side.routed && builder.on_gpu() && (planes == 1 || masked_or_one)) {
        return builder.insert(side.routing.scores, 1, planes);
    }
    const Handle scale = builder.temporary(DType::f32, {B_, E_, planes, side.count});
    if (builder.on_gpu()) {
        scale_on_gpu(side, planes, scale);
        return scale;
    }
    const Handle source = side.routed ? side.routing.scores : side.mask;
    const int64_t count = side.count, B = B_, E = E_;
    const bool routed = side.routed;
    builder.host(side.name + " row scales", {source, scale}, [=](const Frame &f) {
        for (int64_t b = 0; b < B; b++) {
            for (int64_t e = 0; e < E; e++) {
                const View out = f[scale].pick(3, b).pick(2, e);
                for (int64_t plane = 0; plane + 1 < planes; plane++) {
                    std::fill_n(static_cast<float *>(out.pick(1, plane).data), count, 1.f);
                }
                auto *last = static_cast<float *>(out.pick(1, planes - 1).data);
                const View row = routed ? f[source].pick(2, b).pick(1, e) : f[source].pick(1, b);
                for (int64_t k = 0; k < count; k++) {
                    last[k] = routed ? static_cast<const float *>(row.data)[k] : static_cast<float>(static_cast<const uint8_t *>(row.data)[k * row.axes[0].stride] != 0);
                }
            }
        }
        return Status();
    });
    return scale;
}

void MixtureSequence::scale_on_gpu(const Side &side, int64_t planes, Handle scale) {
    const Handle scores = side.routing.scores, mask = side.mask;
    if (side.routed) {
        builder.host(side.name + " row scales", {scores, scale}, [=](const Frame &f) {
            Status status = f.fill(f[scale].crop(1, 0, planes - 1), 1.f);
            return status.ok() ? f.copy(f[scores], f[scale].pick(1, planes - 1)) : status;
        });
        return;
    }
    fill_planes(builder, scale, planes - 1);
    masked_factor(builder, side.name + " row scales", [=, E = E_](const Frame &f) {
        return MaskedFactor{broadcast(ops::one_f32(3), {f[scale].extent(0), E, f[scale].extent(3)}), f[mask].insert(1, {E, 0}), f[scale].pick(1, planes - 1)};
    });
}

TokenSource MixtureSequence::tokens_of(const Side &side) const {
    TokenSource source{.x = side.x, .count = side.count};
    if (side.routed) {
        source.rows = side.routing.rows;
    }
    if (c_.prenorm) {
        source.stats = side.stats;
    }
    return source;
}

Handle MixtureSequence::attend_routed(const AttentionCore &core) {
    AttentionRequest request{.batch = B_, .queries = tokens_of(queries_), .keys = tokens_of(keys_)};
    if (s_.rotary) {
        request.query_rotary = request.key_rotary = rotary_tables(builder, angles_, queries_.length, c_.dim_head);
        const auto positions = [&](const Side &side) { return side.routed ? side.routing.indices : builder.ramp({side.length}); };
        request.query_rotary.positions = positions(queries_);
        request.key_rotary.positions = positions(keys_);
    }
    request.key_value_scale = row_scale(keys_, 2);
    request.output_scale = queries_.routed ? row_scale(queries_, 1) : Handle{};
    if (keys_.mask) {
        request.mask = keys_.routed ? keys_.routing.valid : keys_.mask;
        request.mask_per_expert = keys_.routed;
    }
    return attend(builder, core, request);
}

Handle MixtureSequence::attend_local(const LocalCore &core) {
    LocalCoreRequest request{.batch = B_, .length = queries_.length, .x = queries_.x, .mask = queries_.mask};
    if (core.prenorm) {
        request.stats = queries_.stats;
    }
    request.out = builder.temporary(builder.dtype(), {B_, queries_.length, c_.dim});
    attend_locally(builder, core, request);
    return request.out;
}

void MixtureSequence::combine(Handle attended, Handle local, bool averaged_local, Floats null_token) {
    const Handle null = builder.constant(std::move(null_token), {c_.dim});
    const Side &q = queries_;
    const int64_t B = B_, E = E_, N = q.length;
    const DType dtype = builder.dtype();
    const auto divisor = static_cast<float>(E + (averaged_local ? 1 : 0));
    const ops::Divide divide = !q.routed ? ops::Divide::constant : (c_.average_routed ? ops::Divide::count : ops::Divide::none);
    builder.step("combine", [=, slots = q.routing.slots, valid = q.routing.valid, routed = q.routed, mask = q.mask, count = q.count, out = out_, dim = c_.dim](const Frame &f) {
        ops::Combine a;
        a.a = f[attended];
        a.slots = routed ? f[slots] : broadcast(ops::zero_i32(3), {N, E, B});
        a.valid = routed && mask ? f[valid] : broadcast(ops::one_u8(3), {count, E, B});
        a.has_local = static_cast<bool>(local);
        a.local = local ? f[local] : broadcast(ops::zero_of(dtype, 3), {dim, N, B});
        a.null_token = f[null];
        a.mask = mask_view(f, mask, N, B);
        a.routed = routed;
        a.divide = divide;
        a.divisor = divisor;
        a.out = f[out];
        return a;
    });
}

}  // namespace moa
