#include "moa/attention.h"

#include "tools/cases/case_parts.h"

#include <utility>

namespace moa::tools {

namespace {

Status read(const RecordedCase &recorded, Attention::Config &config) {
    Keywords init(recorded.module, recorded.init), call(recorded.module, recorded.call);
    bool causal = false;
    init.read("dim", config.dim);
    init.read("dim_context", config.dim_context);
    init.read("dim_head", config.dim_head);
    init.read("heads", config.heads);
    init.read("groups", config.groups);
    init.read("prenorm", config.prenorm);
    init.read("causal", causal);
    init.ignore({"dropout", "flash"});
    if (causal) {
        return {Code::unsupported, "Attention: causal attention, which the package has no working form of"};
    }
    Status status = init.finish();
    return status ? call.finish() : status;
}

// Angles of the positions, for all batch entries and experts or for each.
void pass_angles(const RecordedCase &recorded, CaseInputs &inputs, CaseLayer &layer, const std::string &name, const std::vector<int64_t> &shape) {
    const std::vector<int64_t> given = inputs.sizes(name, {shape, {shape[2], shape[3]}});
    if (given.size() == 4) {
        inputs.pass(name, name, DType::f32, shape);
    } else if (given[0] >= 0) {
        const HostTensor table = recorded.tensor("in." + name);
        HostTensor angles(DType::f32, shape);
        for (size_t i = 0; i < angles.size(); i++) {
            angles.set(i, table[i % table.size()]);
        }
        layer.inputs[name] = std::move(angles);
    }
}

Status read_inputs(const RecordedCase &recorded, const Attention::Config &config, Attention::Shapes &shapes, CaseLayer &layer) {
    CaseInputs inputs(recorded, layer);
    const int64_t E = config.groups, d = config.dim_head, dim_context = config.dim_context == 0 ? config.dim : config.dim_context;
    const std::vector<int64_t> x = E == 1 ? inputs.sizes("x", {{-1, 1, -1, config.dim}, {-1, -1, config.dim}}) : inputs.sizes("x", {{-1, E, -1, config.dim}});
    const int64_t B = x[0], N = x[x.size() - 2];
    int64_t M = N;
    shapes.batch = B;
    shapes.queries = N;
    inputs.pass("x", "x", DType::f32, {B, E, N, config.dim});
    if (inputs.has("context")) {
        const std::vector<int64_t> context = E == 1 ? inputs.sizes("context", {{B, 1, -1, dim_context}, {B, -1, dim_context}}) : inputs.sizes("context", {{B, E, -1, dim_context}});
        shapes.keys = M = context[context.size() - 2];
        inputs.pass("context", "context", DType::f32, {B, E, M, dim_context});
    }
    if (inputs.has("mask")) {
        shapes.mask = true;
        shapes.group_mask = inputs.sizes("mask", {{B, M}, {B, E, M}}).size() == 3;
        inputs.pass("mask", "mask", DType::boolean, shapes.group_mask ? std::vector<int64_t>{B, E, M} : std::vector<int64_t>{B, M});
    }
    shapes.queries_scale = inputs.pass_if_any("queries_scale", "queries_scale", DType::f32, {B, E, N});
    shapes.keys_scale = inputs.pass_if_any("keys_scale", "keys_scale", DType::f32, {B, E, M});
    shapes.values_scale = inputs.pass_if_any("values_scale", "values_scale", DType::f32, {B, E, M});
    shapes.output_scale = inputs.pass_if_any("output_scale", "output_scale", DType::f32, {B, E, N});
    shapes.rotary = inputs.has("q_rotary_emb") || inputs.has("k_rotary_emb");
    if (shapes.rotary) {
        pass_angles(recorded, inputs, layer, "q_rotary_emb", {B, E, N, d});
        pass_angles(recorded, inputs, layer, "k_rotary_emb", {B, E, M, d});
    }
    add_output(recorded, layer, "out", "out", x);
    return inputs.finish();
}

}  // namespace

Result<CaseLayer> attention_case(const RecordedCase &recorded) {
    Attention::Config config;
    Attention::Shapes shapes;
    CaseLayer layer;
    if (Status status = read(recorded, config); !status) {
        return status;
    }
    const Result<Semantics> semantics = config.groups > 1 ? semantics_of(recorded, {"kv_split"}) : semantics_of(recorded, {});
    if (!semantics.ok()) {
        return semantics.status();
    }
    config.semantics = *semantics;
    Result<Attention> attention = Attention::create(config, recorded.file.tensors("w."));
    if (!attention.ok()) {
        return attention.status();
    }
    if (Status status = read_inputs(recorded, config, shapes, layer); !status) {
        return status;
    }
    layer.roundings = attention_roundings(recorded, "w.", config.prenorm);
    layer.plan = [attention = *std::move(attention), shapes](const PlanOptions &options, bool /*impose*/) { return attention.plan(shapes, options); };
    return layer;
}

Roundings attention_roundings(const RecordedCase &recorded, const std::string &prefix, bool prenorm) {
    const double x = prenorm ? 1 : rms_of(recorded, "in.x"), context = prenorm || !recorded.has("in.context") ? x : rms_of(recorded, "in.context");
    const double q = projected(recorded, x, prefix + "to_q.weight", prefix + "norm.gamma") * rms_of(recorded, "in.queries_scale");
    const double k = projected(recorded, context, prefix + "to_kv.weight", prefix + "context_norm.gamma") * rms_of(recorded, "in.keys_scale");
    // Values: weights, v, attention weights, what attention gives, output weights. Scores: weights and q, weights and k.
    return {.values = 5, .scores = 4, .score_deviation = q * k};
}

}  // namespace moa::tools
