#include "moa/mixture_of_attention.h"

#include "runtime/layers/attention_core.h"
#include "runtime/layers/local_core.h"
#include "runtime/layers/routing.h"

#include <algorithm>
#include <optional>
#include <utility>

namespace moa {

struct MixtureOfAttention::Impl {
    Config config;
    AttentionCore attention;
    std::optional<LocalCore> local;
    Floats query_tokens, key_value_tokens;  // [e, c]
    Floats all_tokens;                      // queries' then keys', for one pass over x; only if the widths are equal
    Floats null_token;                      // [c]
    bool drop_local_if_unrouted = false;
};

MixtureOfAttention::MixtureOfAttention(std::shared_ptr<const Impl> impl)
    : impl_(std::move(impl)) {
}

namespace {

Status check(const MixtureOfAttention::Config &c) {
    if (!sizes_fit({c.dim, c.dim_context, c.num_experts, c.dim_head, c.heads})) {
        return invalid("MixtureOfAttention: dim {}, dim_context {}, num_experts {}, dim_head {}, heads {} must be 1 to 2^20", c.dim,
                       c.dim_context, c.num_experts, c.dim_head, c.heads);
    }
    if (c.num_routed_queries < 1 || c.num_routed_key_values < 1) {
        return invalid("MixtureOfAttention: num_routed_queries {} and num_routed_key_values {} must be at least 1", c.num_routed_queries,
                       c.num_routed_key_values);
    }
    if (c.local_attn && c.dim_context != c.dim) {
        return invalid("MixtureOfAttention: a local branch needs dim_context {} to equal dim {}", c.dim_context, c.dim);
    }
    return check_router_options(c);
}

}  // namespace

Result<MixtureOfAttention> MixtureOfAttention::create(const Config &config, const TensorMap &weights) {
    auto impl = std::make_shared<Impl>();
    impl->config = config;
    Config &c = impl->config;
    c.dim_context = c.dim_context == 0 ? c.dim : c.dim_context;
    if (Status status = check(c); !status) {
        return status;
    }
    impl->drop_local_if_unrouted = c.drop_local_if_unrouted.value_or(c.semantics == Semantics::reference);
    AttentionCore &core = impl->attention;
    core.dim = c.dim;
    core.dim_context = c.dim_context;
    core.dim_head = c.dim_head;
    core.heads = c.heads;
    core.experts = c.num_experts;
    core.prenorm = c.prenorm;
    core.crossed_key_values = c.semantics == Semantics::reference && c.num_experts > 1;
    WeightReader reader(weights);
    core.read(reader, "attn.");
    std::vector<float> queries = reader.take("query_router.routing_token", {c.num_experts, c.dim});
    std::vector<float> keys = reader.take("key_value_router.routing_token", {c.num_experts, c.dim_context});
    impl->query_tokens = share(queries);
    impl->key_value_tokens = share(keys);
    if (c.dim == c.dim_context) {
        queries.insert(queries.end(), keys.begin(), keys.end());
        impl->all_tokens = share(std::move(queries));
    }
    impl->null_token = share(c.local_attn ? std::vector<float>(static_cast<size_t>(c.dim)) : reader.take("null_routed_token", {1, 1, c.dim}));
    if (c.local_attn) {
        LocalMHA::Config local;
        local.window_size = c.local_attn_window_size;
        local.dim = c.dim;
        local.dim_head = c.dim_head;
        local.heads = c.heads;
        local.prenorm = c.prenorm;
        Result<LocalCore> made = read_local_core(local, reader, "local_attn.");
        if (!made.ok() && reader.ok()) {
            return Status(made.status().code(), "local_attn: " + made.status().message());
        }
        if (made.ok()) {
            impl->local = std::move(*made);
        }
    }
    if (Status status = reader.finish(); !status) {
        return status;
    }
    return MixtureOfAttention(std::move(impl));
}

namespace {

// The sequence of one plan. A side is the queries or the keys: routed, or taken whole.
class Sequence {
public:
    Sequence(const MixtureOfAttention::Config &config, const MixtureOfAttention::Shapes &shapes, const PlanOptions &options)
        : builder(options), c_(config), s_(shapes), self_(shapes.context_length < 0), reference_(config.semantics == Semantics::reference),
          B_(shapes.batch), E_(config.num_experts) {
        queries_.name = "query";
        queries_.length = shapes.length;
        queries_.k = shapes.num_routed_queries.value_or(config.num_routed_queries);
        queries_.impose = shapes.impose_queries;
        keys_.name = "key_value";
        keys_.length = self_ ? shapes.length : shapes.context_length;
        keys_.k = shapes.num_routed_key_values.value_or(config.num_routed_key_values);
        keys_.impose = shapes.impose_key_values;
        for (Side *side : {&queries_, &keys_}) {
            side->routed = side->length > side->k;
            side->count = side->length;
        }
    }

    Status check() const;
    void declare_arguments();
    void score(const Floats &query_tokens, const Floats &key_value_tokens, const Floats &all_tokens);
    void select();
    Handle attend_routed(const AttentionCore &core);
    Handle attend_local(const LocalCore &core);
    void combine(Handle attended, Handle local, bool averaged_local, Floats null_token);

    bool queries_routed() const {
        return queries_.routed;
    }

    PlanBuilder builder;

private:
    struct Side {
        std::string name;
        int64_t length = 0, k = 0, count = 0;  // count: tokens an expert works on
        bool routed = false, impose = false;
        Handle x{}, mask{}, stats{}, imposed{}, similarities{}, indices_out{}, similarities_out{};
        int64_t first_router = 0;
        Routing routing{};
    };

    Handle similarities_of(const std::string &name, Handle x, const Floats &tokens, int64_t routers, int64_t dim, int64_t length, Handle stats);
    void statistics_of(Side &side);
    void select_side(Side &side);
    Handle row_scale(const Side &side, int64_t planes);
    void scale_on_gpu(const Side &side, int64_t planes, Handle scale);
    bool select_both();
    TokenSource tokens_of(const Side &side) const;

    const MixtureOfAttention::Config &c_;
    const MixtureOfAttention::Shapes &s_;
    bool self_, reference_;
    int64_t B_, E_;
    Side queries_, keys_;
    Handle angles_{}, out_{};
};

Status Sequence::check() const {
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

void Sequence::declare_arguments() {
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

Handle Sequence::similarities_of(const std::string &name, Handle x, const Floats &tokens, int64_t routers, int64_t dim, int64_t length, Handle stats) {
    const Handle similarities = builder.temporary(DType::f32, {B_, routers, length});
    const Handle weights = builder.constant(tokens, {routers, dim});
    const float cosine = c_.cosine_sim_routing ? static_cast<float>(c_.cosine_sim_scale) : 0.f;
    builder.step(name, [=, batch = B_](const Frame &f) {
        return ops::RouterScores{f[x], f[weights].insert(2, {batch, 0}), cosine, f[similarities], f[stats]};
    });
    return similarities;
}

void Sequence::statistics_of(Side &side) {
    if (c_.prenorm) {
        builder.step(side.name + " row statistics", [x = side.x, stats = side.stats](const Frame &f) { return ops::RowStatistics{f[x], f[stats]}; });
    }
}

// Similarities, and with them the statistics that the norms want: in self-attention one pass over x serves both sides.
void Sequence::score(const Floats &query_tokens, const Floats &key_value_tokens, const Floats &all_tokens) {
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

void Sequence::select_side(Side &side) {
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
    side.routing = route(builder, request);
    side.count = side.routing.tokens;
    write_indices(builder, side.routing.indices, side.indices_out);
    write_copy(builder, side.similarities, side.similarities_out, side.first_router);
}

// One selection for both sides of self-attention, where a launch costs more than the work: their routers stand side by
// side already.
bool Sequence::select_both() {
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
        side->routing = {both.tokens, half(both.indices), half(both.scores), half(both.valid), half(both.slots), half(both.rows), half(both.soft_scores)};
        side->count = both.tokens;
        write_indices(builder, side->routing.indices, side->indices_out);
        write_copy(builder, side->similarities, side->similarities_out, side->first_router);
    }
    return true;
}

void Sequence::select() {
    if (select_both()) {
        return;
    }
    select_side(queries_);
    select_side(keys_);
}

// A factor for each row, 1 or its score, and exactly 0 where it is masked, in the last plane of [b, e, planes, count];
// the planes before it are 1. None if nothing is scaled.
Handle Sequence::row_scale(const Side &side, int64_t planes) {
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

void Sequence::scale_on_gpu(const Side &side, int64_t planes, Handle scale) {
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

TokenSource Sequence::tokens_of(const Side &side) const {
    TokenSource source{.x = side.x, .count = side.count};
    if (side.routed) {
        source.rows = side.routing.rows;
    }
    if (c_.prenorm) {
        source.stats = side.stats;
    }
    return source;
}

Handle Sequence::attend_routed(const AttentionCore &core) {
    AttentionRequest request{.batch = B_, .queries = tokens_of(queries_), .keys = tokens_of(keys_)};
    if (s_.rotary) {
        request.query_rotary = request.key_rotary = rotary_tables(builder, angles_, queries_.length, c_.dim_head);
        const auto positions = [&](const Side &side) { return side.routed ? side.routing.indices : builder.constant(ramp(side.length), {side.length}); };
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

Handle Sequence::attend_local(const LocalCore &core) {
    LocalCoreRequest request{.batch = B_, .length = queries_.length, .x = queries_.x, .mask = queries_.mask};
    if (core.prenorm) {
        request.stats = queries_.stats;
    }
    request.out = builder.temporary(builder.dtype(), {B_, queries_.length, c_.dim});
    attend_locally(builder, core, request);
    return request.out;
}

void Sequence::combine(Handle attended, Handle local, bool averaged_local, Floats null_token) {
    const Handle null = builder.constant(std::move(null_token), {c_.dim});
    const Side &q = queries_;
    const int64_t B = B_, E = E_, N = q.length;
    const DType dtype = builder.dtype();
    const float divisor = static_cast<float>(E + (averaged_local ? 1 : 0));
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

}  // namespace

Result<Plan> MixtureOfAttention::plan(const Shapes &shapes, const PlanOptions &options) const {
    Sequence sequence(impl_->config, shapes, options);
    if (Status status = sequence.check(); !status) {
        return status;
    }
    sequence.declare_arguments();
    sequence.score(impl_->query_tokens, impl_->key_value_tokens, impl_->all_tokens);
    sequence.select();
    const Handle attended = sequence.attend_routed(impl_->attention);
    const bool with_local = impl_->local && (sequence.queries_routed() || !impl_->drop_local_if_unrouted);
    const Handle local = with_local ? sequence.attend_local(*impl_->local) : Handle{};
    sequence.combine(attended, local, with_local, impl_->null_token);
    return sequence.builder.finish();
}

}  // namespace moa
