#include "moa/mixture_of_attention.h"

#include "tools/cases/case_parts.h"

#include <utility>

namespace moa::tools {

namespace {

Status read(const RecordedCase &recorded, MixtureOfAttention::Config &config, MixtureOfAttention::Shapes &shapes) {
    Keywords init(recorded.module, recorded.init), call(recorded.module, recorded.call);
    init.read("dim", config.dim);
    init.read("dim_context", config.dim_context);
    init.read("num_routed_queries", config.num_routed_queries);
    init.read("num_routed_key_values", config.num_routed_key_values);
    init.read("num_experts", config.num_experts);
    init.read("dim_head", config.dim_head);
    init.read("heads", config.heads);
    init.read("local_attn", config.local_attn);
    init.read("local_attn_window_size", config.local_attn_window_size);
    init.read("prenorm", config.prenorm);
    init.read("average_routed", config.average_routed);
    read_router_options(init, config);
    init.ignore({"dropout", "flash_attn"});
    call.read("num_routed_queries", shapes.num_routed_queries);
    call.read("num_routed_key_values", shapes.num_routed_key_values);
    Status status = init.finish();
    return status ? call.finish() : status;
}

Status read_inputs(const RecordedCase &recorded, const MixtureOfAttention::Config &config, MixtureOfAttention::Shapes &shapes, CaseLayer &layer) {
    CaseInputs inputs(recorded, layer);
    const std::vector<int64_t> x = inputs.sizes("x", {{-1, -1, config.dim}});
    shapes.batch = x[0];
    shapes.length = x[1];
    inputs.pass("x", "x", DType::f32, x);
    shapes.mask = inputs.pass_if_any("mask", "mask", DType::boolean, {x[0], x[1]});
    if (inputs.has("context")) {
        const std::vector<int64_t> context = inputs.sizes("context", {{x[0], -1, config.dim_context == 0 ? config.dim : config.dim_context}});
        shapes.context_length = context[1];
        inputs.pass("context", "context", DType::f32, context);
        shapes.context_mask = inputs.pass_if_any("context_mask", "context_mask", DType::boolean, {context[0], context[1]});
    }
    shapes.rotary = inputs.pass_if_any("rotary_emb", "rotary_emb", DType::f32, {x[1], config.dim_head});
    add_output(recorded, layer, "out", "out", x);
    return inputs.finish();
}

// Routes of both sides, as far as they are routed. Returns which are.
struct Routed {
    bool queries = false, key_values = false;
};
Result<Routed> add_routes(const RecordedCase &recorded, const MixtureOfAttention::Config &config, const MixtureOfAttention::Shapes &shapes, CaseLayer &layer) {
    const bool self = shapes.context_length < 0;
    RoutedSide queries{"query_router", "query_indices", "query_similarities", "imposed_queries", shapes.mask ? "mask" : "",
                       shapes.batch, config.num_experts, shapes.length, shapes.num_routed_queries.value_or(config.num_routed_queries),
                       config.semantics == Semantics::reference};
    RoutedSide keys = queries;
    keys.router = "key_value_router";
    keys.indices = "key_value_indices";
    keys.similarities = "key_value_similarities";
    keys.imposed = "imposed_key_values";
    keys.length = self ? shapes.length : shapes.context_length;
    keys.k = shapes.num_routed_key_values.value_or(config.num_routed_key_values);
    keys.mask = self ? queries.mask : (shapes.context_mask ? "context_mask" : "");
    const Routed routed{queries.length > queries.k, keys.length > keys.k};
    Status status = routed.queries ? add_route(recorded, config, queries, layer) : Status();
    status = status && routed.key_values ? add_route(recorded, config, keys, layer) : status;
    return status ? Result<Routed>(routed) : status;
}

}  // namespace

Result<CaseLayer> mixture_case(const RecordedCase &recorded) {
    MixtureOfAttention::Config config;
    MixtureOfAttention::Shapes shapes;
    CaseLayer layer;
    if (Status status = read(recorded, config, shapes); !status) {
        return status;
    }
    if (Status status = read_inputs(recorded, config, shapes, layer); !status) {
        return status;
    }
    const bool several = config.num_experts > 1;
    const Result<Semantics> semantics = several && shapes.batch > 1 ? semantics_of(recorded, {"gather", "kv_split"}) : (several ? semantics_of(recorded, {"kv_split"}) : semantics_of(recorded, {}));
    if (!semantics.ok()) {
        return semantics.status();
    }
    config.semantics = *semantics;
    config.drop_local_if_unrouted = !recorded.fix.contains("local_unrouted");
    Result<MixtureOfAttention> mixture = MixtureOfAttention::create(config, recorded.file.tensors("w."));
    if (!mixture.ok()) {
        return mixture.status();
    }
    const Result<Routed> routed = add_routes(recorded, config, shapes, layer);
    if (!routed.ok()) {
        return routed.status();
    }
    layer.roundings = attention_roundings(recorded, "w.attn.", config.prenorm);
    layer.roundings.values += 1;  // experts' outputs, and the local branch's, are stored before they are combined
    layer.plan = [mixture = *std::move(mixture), shapes, routed = *routed](const PlanOptions &options, bool impose) {
        MixtureOfAttention::Shapes planned = shapes;
        planned.impose_queries = impose && routed.queries;
        planned.impose_key_values = impose && routed.key_values;
        return mixture.plan(planned, options);
    };
    return layer;
}

}  // namespace moa::tools
