#include "moa/local_attention.h"

#include "tools/cases/case_parts.h"

#include <cmath>
#include <utility>

namespace moa::tools {

namespace {

void read_options(Keywords &keywords, LocalAttentionOptions &options) {
    keywords.read("window_size", options.window_size);
    keywords.read("causal", options.causal);
    keywords.read("look_backward", options.look_backward);
    keywords.read("look_forward", options.look_forward);
    keywords.read("shared_qk", options.shared_qk);
    keywords.read("exact_windowsize", options.exact_windowsize);
    keywords.read("scale", options.scale);
    keywords.read("use_xpos", options.use_xpos);
    keywords.read("xpos_scale_base", options.xpos_scale_base);
    keywords.ignore({"dropout"});
}

int64_t slots_of(const LocalAttentionOptions &options) {
    return (options.look_backward + 1 + options.look_forward.value_or(options.causal ? 0 : 1)) * options.window_size;
}

struct LocalCall {
    LocalAttention::Config config;
    LocalAttention::Shapes shapes;
};

Status read(const RecordedCase &recorded, LocalCall &call) {
    Keywords init(recorded.module, recorded.init), arguments(recorded.module, recorded.call);
    std::optional<int64_t> dim;
    bool rotary = true;
    read_options(init, call.config);
    init.read("autopad", call.config.autopad);
    init.read("dim", dim);
    init.read("use_rotary_pos_emb", rotary);
    if (Status status = init.finish(); !status) {
        return status;
    }
    if (Status status = arguments.finish(); !status) {
        return status;
    }
    call.config.rotary = rotary && dim.has_value();
    const auto q = recorded.file.tensors().find("in.q");
    call.config.dim_head = q != recorded.file.tensors().end() && q->second.rank > 0 ? q->second.shape[q->second.rank - 1] : dim.value_or(0);
    if (call.config.rotary && *dim != call.config.dim_head) {
        return invalid("{}: dim is {}, and q has {} channels", recorded.module, *dim, call.config.dim_head);
    }
    return {};
}

Status read_inputs(const RecordedCase &recorded, LocalCall &call, CaseLayer &layer) {
    CaseInputs inputs(recorded, layer);
    const std::vector<int64_t> q = inputs.sizes("q", {{-1, -1, -1, call.config.dim_head}, {-1, -1, call.config.dim_head}});
    LocalAttention::Shapes &s = call.shapes;
    s.batch = q[0];
    s.heads = q.size() == 4 ? q[1] : 1;
    s.length = q[q.size() - 2];
    for (const char *name : {"q", "k", "v"}) {
        inputs.pass(name, name, DType::f32, {s.batch, s.heads, s.length, call.config.dim_head});
    }
    s.mask = inputs.pass_if_any("mask", "mask", DType::boolean, {s.batch, s.length});
    s.attn_bias = inputs.pass_if_any("attn_bias", "attn_bias", DType::f32, {s.heads, call.config.window_size, slots_of(call.config)});
    add_output(recorded, layer, "out", "out", q);
    return inputs.finish();
}

}  // namespace

Result<CaseLayer> local_attention_case(const RecordedCase &recorded) {
    LocalCall call;
    CaseLayer layer;
    if (Status status = read(recorded, call); !status) {
        return status;
    }
    Result<LocalAttention> attention = LocalAttention::create(call.config, recorded.file.tensors("w."));
    if (!attention.ok()) {
        return attention.status();
    }
    if (Status status = read_inputs(recorded, call, layer); !status) {
        return status;
    }
    const auto channels = static_cast<double>(call.config.dim_head);
    const double k = call.config.shared_qk ? 1 / std::sqrt(channels) : rms_of(recorded, "in.k");
    const double scale = call.config.scale.value_or(1 / std::sqrt(channels));
    // Values: attention weights. Scores: turned queries and keys.
    layer.roundings = {.values = 1, .scores = 2, .score_deviation = scale * std::sqrt(channels) * rms_of(recorded, "in.q") * k};
    layer.plan = [attention = *std::move(attention), shapes = call.shapes](const PlanOptions &options, bool /*impose*/) { return attention.plan(shapes, options); };
    return layer;
}

namespace {

Status read(const RecordedCase &recorded, LocalMHA::Config &config) {
    Keywords init(recorded.module, recorded.init), call(recorded.module, recorded.call);
    bool autopad = true, return_cache = false;
    read_options(init, config);
    init.read("dim", config.dim);
    init.read("dim_head", config.dim_head);
    init.read("heads", config.heads);
    init.read("prenorm", config.prenorm);
    init.read("qk_rmsnorm", config.qk_rmsnorm);
    init.read("qk_scale", config.qk_scale);
    init.read("use_rotary_pos_emb", config.use_rotary_pos_emb);
    init.read("gate_values_per_head", config.gate_values_per_head);
    init.read("autopad", autopad);
    call.read("return_cache", return_cache);
    if (!autopad || return_cache || recorded.has("in.cache") || recorded.has("out.cache")) {
        return {Code::unsupported, text("LocalMHA: {}", autopad ? "decoding with a cache" : "lengths that are not padded")};
    }
    Status status = init.finish();
    return status ? call.finish() : status;
}

Roundings roundings_of(const RecordedCase &recorded, const LocalMHA::Config &config) {
    const auto channels = static_cast<double>(config.dim_head);
    const double x = config.prenorm ? 1 : rms_of(recorded, "in.x"), projection = projected(recorded, x, "w.to_qkv.weight", "w.norm.weight");
    // As in attention_roundings(); a gate has weights and is stored, and normalised queries and keys are stored again.
    Roundings result{.values = config.gate_values_per_head ? 7.0 : 5.0, .scores = config.qk_rmsnorm ? 6.0 : 4.0, .score_deviation = projection * projection};
    if (config.qk_rmsnorm) {
        result.score_deviation = config.qk_scale * rms_of(recorded, "w.q_scale") * rms_of(recorded, "w.k_scale") / std::sqrt(channels);
    } else if (config.scale) {
        result.score_deviation *= *config.scale * std::sqrt(channels);
    }
    return result;
}

}  // namespace

Result<CaseLayer> local_mha_case(const RecordedCase &recorded) {
    LocalMHA::Config config;
    LocalMHA::Shapes shapes;
    CaseLayer layer;
    if (Status status = read(recorded, config); !status) {
        return status;
    }
    Result<LocalMHA> attention = LocalMHA::create(config, recorded.file.tensors("w."));
    if (!attention.ok()) {
        return attention.status();
    }
    CaseInputs inputs(recorded, layer);
    const std::vector<int64_t> x = inputs.sizes("x", {{-1, -1, config.dim}});
    shapes.batch = x[0];
    shapes.length = x[1];
    inputs.pass("x", "x", DType::f32, x);
    shapes.mask = inputs.pass_if_any("mask", "mask", DType::boolean, {x[0], x[1]});
    shapes.attn_bias = inputs.pass_if_any("attn_bias", "attn_bias", DType::f32, {config.heads, config.window_size, slots_of(config)});
    add_output(recorded, layer, "out", "out", x);
    if (Status status = inputs.finish(); !status) {
        return status;
    }
    layer.roundings = roundings_of(recorded, config);
    layer.plan = [attention = *std::move(attention), shapes](const PlanOptions &options, bool /*impose*/) { return attention.plan(shapes, options); };
    return layer;
}

}  // namespace moa::tools
