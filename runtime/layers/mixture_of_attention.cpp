#include "moa/mixture_of_attention.h"

#include "runtime/layers/attention_core.h"
#include "runtime/layers/local_core.h"
#include "runtime/layers/mixture_sequence.h"

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
    OptionCheck check("MixtureOfAttention");
    check.size("dim", c.dim).size("dim_context", c.dim_context).size("num_experts", c.num_experts).size("dim_head", c.dim_head).size("heads", c.heads);
    check.matrix("attn.to_q.weight", {c.heads, c.dim_head, c.dim}).matrix("attn.to_kv.weight", {2, c.heads, c.dim_head, c.dim_context});
    check.that(c.num_routed_queries >= 1 && c.num_routed_key_values >= 1, [&] {
        return text("num_routed_queries {} and num_routed_key_values {} must be at least 1", c.num_routed_queries, c.num_routed_key_values);
    });
    check.that(!c.local_attn || c.dim_context == c.dim, [&] { return text("a local branch needs dim_context {} to equal dim {}", c.dim_context, c.dim); });
    return check_router_options(check, c);
}

}  // namespace

Result<MixtureOfAttention> MixtureOfAttention::create(const Config &config, const TensorMap &weights) try {
    WeightReader reader(weights);
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
} catch (...) {
    return caught("MixtureOfAttention::create");
}

Result<Plan> MixtureOfAttention::plan(const Shapes &shapes, const PlanOptions &options) const try {
    MixtureSequence sequence(impl_->config, shapes, options);
    if (Status status = sequence.check(); !status) {
        return status;
    }
    sequence.declare_arguments();
    if (!sequence.builder.ok()) {
        return sequence.builder.status();
    }
    sequence.score(impl_->query_tokens, impl_->key_value_tokens, impl_->all_tokens);
    sequence.select();
    const Handle attended = sequence.attend_routed(impl_->attention);
    const bool with_local = impl_->local && (sequence.queries_routed() || !impl_->drop_local_if_unrouted);
    const Handle local = with_local ? sequence.attend_local(*impl_->local) : Handle{};
    sequence.combine(attended, local, with_local, impl_->null_token);
    return sequence.builder.finish();
} catch (...) {
    return caught("MixtureOfAttention::plan");
}

}  // namespace moa
