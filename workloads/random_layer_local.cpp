#include "moa/feed_forward.h"

#include "workloads/random_layer_kinds.h"

namespace moa::workloads {

namespace {

template<class Layer, class Shapes>
Status plan_of(Drawn &drawn, const Result<Layer> &layer, const Shapes &shapes) {
    if (layer.ok()) {
        drawn.maker.plan([layer = *layer, shapes](const PlanOptions &options) { return layer.plan(shapes, options); });
    }
    return layer.status();
}

void draw_windows(Drawn &drawn, LocalAttentionOptions &o, bool rotary) {
    o.window_size = drawn.size(1, 128);
    // Some windows are far larger than any input.
    o.window_size = drawn.chance(0.1) ? int64_t{1} << drawn.size(8, 18) : o.window_size;
    o.causal = drawn.option("causal", 0.4);
    o.exact_windowsize = drawn.option("exact", 0.5);
    o.look_backward = drawn.chance(0.7) ? 1 : drawn.size(1, 4) - 1;
    if (!o.causal && drawn.chance(0.3)) {
        o.look_forward = drawn.size(1, 3) - 1;
    }
    o.shared_qk = drawn.option("shared_qk", 0.15);
    o.use_xpos = drawn.option("xpos", 0.2, rotary && o.window_size > 1 && o.window_size <= 128);
    drawn.say("window", o.window_size);
    drawn.say("back", o.look_backward);
    drawn.say("ahead", o.look_forward.value_or(o.causal ? 0 : 1));
}

int64_t slots_of(const LocalAttentionOptions &o) {
    return (o.look_backward + 1 + o.look_forward.value_or(o.causal ? 0 : 1)) * o.window_size;
}

double local_products(const LocalAttentionOptions &o, int64_t batch, int64_t heads, int64_t length, int64_t width) {
    return 2 * product_of({batch, heads, length, std::min(slots_of(o), length), width});
}

constexpr int64_t kMostBias = 1 << 16;

}  // namespace

Status draw_linear(Drawn &drawn) {
    Linear::Config c;
    c.dim_in = drawn.size(1, 300);
    c.dim_out = drawn.size(1, 300);
    c.rms_norm = drawn.chance(0.5);
    c.bias = drawn.chance(0.5);
    const int64_t batch = drawn.size(1, 3), length = drawn.size(1, 700);
    drawn.text = c.rms_norm ? "Linear rms_norm" : "Linear";
    drawn.text += c.bias ? " bias" : "";
    drawn.say("in", c.dim_in);
    drawn.say("out", c.dim_out);
    drawn.say("batch", batch);
    drawn.say("length", length);
    drawn.products = product_of({batch, length, c.dim_in, c.dim_out});
    if (drawn.too_large()) {
        return {};
    }
    LayerMaker &maker = drawn.maker;
    maker.input("x", {batch, length, c.dim_in});
    maker.output("out", maker.dtype(), {batch, length, c.dim_out});
    maker.matrix("weight", {c.dim_out, c.dim_in}, c.dim_in);
    if (c.rms_norm) {
        maker.parameter("gamma", {c.dim_in});
    }
    if (c.bias) {
        maker.parameter("bias", {c.dim_out});
    }
    drawn.reference = [=, &drawn](Rounding &rounding) {
        const Rows x = drawn.rows("x", batch * length, c.dim_in);
        return product(rounding, c.rms_norm ? rms_norm(x, drawn.weight("gamma")) : x, drawn.weight("weight"), c.dim_out, c.bias ? drawn.weight("bias") : nullptr);
    };
    const Result<Linear> layer = Linear::create(c, maker.weights());
    if (layer.ok()) {
        maker.plan([layer = *layer, batch, length](const PlanOptions &options) { return layer.plan(batch, length, options); });
    }
    return layer.status();
}

Status draw_feed_forward(Drawn &drawn) {
    FeedForward::Config c;
    c.dim = drawn.size(1, 300);
    c.hidden = drawn.size(1, 600);
    const int64_t batch = drawn.size(1, 3), length = drawn.size(1, 700);
    drawn.text = "FeedForward";
    drawn.say("dim", c.dim);
    drawn.say("hidden", c.hidden);
    drawn.say("batch", batch);
    drawn.say("length", length);
    drawn.products = 2 * product_of({batch, length, c.dim, c.hidden});
    if (drawn.too_large()) {
        return {};
    }
    LayerMaker &maker = drawn.maker;
    maker.input("x", {batch, length, c.dim});
    maker.output("out", maker.dtype(), {batch, length, c.dim});
    maker.parameter("0.gamma", {c.dim});
    maker.matrix("1.weight", {c.hidden, c.dim}, c.dim);
    maker.parameter("1.bias", {c.hidden});
    maker.matrix("3.weight", {c.dim, c.hidden}, c.hidden);
    maker.parameter("3.bias", {c.dim});
    drawn.reference = [=, &drawn](Rounding &rounding) {
        Rows hidden = product(rounding, rms_norm(drawn.rows("x", batch * length, c.dim), drawn.weight("0.gamma")), drawn.weight("1.weight"), c.hidden, drawn.weight("1.bias"));
        for (double &value : hidden.values) {
            value = rounding.stored(0.5 * value * (1 + std::erf(value * std::sqrt(0.5))));
        }
        return product(rounding, hidden, drawn.weight("3.weight"), c.dim, drawn.weight("3.bias"));
    };
    const Result<FeedForward> layer = FeedForward::create(c, maker.weights());
    if (layer.ok()) {
        maker.plan([layer = *layer, batch, length](const PlanOptions &options) { return layer.plan(batch, length, options); });
    }
    return layer.status();
}

Status draw_local_attention(Drawn &drawn) {
    LocalAttention::Config c;
    LocalAttention::Shapes s;
    drawn.text = "LocalAttention";
    c.rotary = drawn.option("rotary", 0.6);
    c.dim_head = drawn.head_width(c.rotary);
    draw_windows(drawn, c, c.rotary);
    c.autopad = true;
    s.batch = drawn.size(1, 3);
    s.heads = drawn.size(1, 8);
    s.length = drawn.size(1, 700);
    s.mask = drawn.option("mask", 0.5);
    s.attn_bias = drawn.option("attn_bias", 0.2, s.heads * c.window_size * slots_of(c) <= kMostBias);
    drawn.say("batch", s.batch);
    drawn.say("heads", s.heads);
    drawn.say("width", c.dim_head);
    drawn.say("length", s.length);
    drawn.products = local_products(c, s.batch, s.heads, s.length, c.dim_head);
    if (drawn.too_large()) {
        return {};
    }
    LayerMaker &maker = drawn.maker;
    for (const char *name : {"q", "k", "v"}) {
        maker.input(name, {s.batch, s.heads, s.length, c.dim_head});
    }
    maker.output("out", maker.dtype(), {s.batch, s.heads, s.length, c.dim_head});
    if (s.mask) {
        maker.random_mask("mask", {s.batch, s.length});
    }
    if (s.attn_bias) {
        maker.scores("attn_bias", {s.heads, c.window_size, slots_of(c)});
    }
    if (c.rotary) {
        maker.angles("rel_pos.inv_freq", c.dim_head);
    }
    drawn.reference = [=, &drawn](Rounding &rounding) {
        const Rows q = drawn.rows("q", s.batch * s.heads * s.length, c.dim_head), k = drawn.rows("k", q.count, q.width), v = drawn.rows("v", q.count, q.width);
        const std::vector<uint8_t> mask = drawn.mask("mask");
        const auto *bias = static_cast<const float *>(drawn.memory("attn_bias"));
        LocalHead head{.options = c, .scale = 1 / std::sqrt(static_cast<double>(c.dim_head))};
        if (c.rotary) {
            head.inv_freq.assign(drawn.weight("rel_pos.inv_freq"), drawn.weight("rel_pos.inv_freq") + c.dim_head / 2);
        }
        Rows out(q.count, q.width);
        for (int64_t part = 0; part < s.batch * s.heads; part++) {
            std::vector<int64_t> places(static_cast<size_t>(s.length));
            for (int64_t n = 0; n < s.length; n++) {
                places[static_cast<size_t>(n)] = part * s.length + n;
            }
            head.bias = bias == nullptr ? nullptr : bias + part % s.heads * c.window_size * slots_of(c);
            const auto first = mask.begin() + (mask.empty() ? 0 : part / s.heads * s.length);
            const std::vector<uint8_t> own(first, first + (mask.empty() ? 0 : s.length));
            const Rows one = attend_locally(rounding, head, q.picked(places), k.picked(places), v.picked(places), own);
            std::copy(one.values.begin(), one.values.end(), out[part * s.length]);
        }
        return out;
    };
    return plan_of(drawn, LocalAttention::create(c, maker.weights()), s);
}

void add_local_mha(Drawn &drawn, const LocalMHA::Config &c, const std::string &prefix) {
    LayerMaker &maker = drawn.maker;
    const int64_t inner = c.heads * c.dim_head;
    if (c.prenorm) {
        maker.parameter(prefix + "norm.weight", {c.dim});
        maker.parameter(prefix + "norm.bias", {c.dim});
    }
    maker.matrix(prefix + "to_qkv.weight", {3 * inner, c.dim}, c.dim);
    maker.matrix(prefix + "to_out.weight", {c.dim, inner}, inner);
    if (c.use_rotary_pos_emb) {
        maker.angles(prefix + "attn_fn.rel_pos.inv_freq", c.dim_head);
    }
    if (c.qk_rmsnorm) {
        maker.parameter(prefix + "q_scale", {c.dim_head});
        maker.parameter(prefix + "k_scale", {c.dim_head});
    }
    if (c.gate_values_per_head) {
        maker.matrix(prefix + "to_v_gate.0.weight", {c.heads, c.dim}, c.dim);
        maker.parameter(prefix + "to_v_gate.0.bias", {c.heads});
    }
}

Rows local_mha(const Drawn &drawn, Rounding &rounding, const LocalMHA::Config &c, const std::string &prefix, const Rows &given, const std::vector<uint8_t> &mask, const float *bias) {
    const int64_t inner = c.heads * c.dim_head;
    const Normed x = c.prenorm ? layer_norm(given, drawn.weight(prefix + "norm.weight"), drawn.weight(prefix + "norm.bias")) : Normed{given};
    const Rows qkv = product(rounding, x, drawn.weight(prefix + "to_qkv.weight"), 3 * inner);
    const Rows gates = c.gate_values_per_head ? product(rounding, x, drawn.weight(prefix + "to_v_gate.0.weight"), c.heads, drawn.weight(prefix + "to_v_gate.0.bias")) : Rows();
    LocalHead head{.options = c, .scale = c.qk_rmsnorm ? c.qk_scale : 1 / std::sqrt(static_cast<double>(c.dim_head))};
    if (c.use_rotary_pos_emb) {
        const float *angles = drawn.weight(prefix + "attn_fn.rel_pos.inv_freq");
        head.inv_freq.assign(angles, angles + c.dim_head / 2);
    }
    Rows mixed(given.count, inner);
    for (int64_t h = 0; h < c.heads; h++) {
        Rows q = qkv.columns(h * c.dim_head, c.dim_head), k = qkv.columns(inner + h * c.dim_head, c.dim_head);
        if (c.qk_rmsnorm) {
            q = l2_norm(q, drawn.weight(prefix + "q_scale"));
            k = l2_norm(k, drawn.weight(prefix + "k_scale"));
        }
        head.bias = bias == nullptr ? nullptr : bias + h * c.window_size * slots_of(c);
        const Rows one = attend_locally(rounding, head, q, k, qkv.columns(2 * inner + h * c.dim_head, c.dim_head), mask);
        for (int64_t n = 0; n < given.count; n++) {
            const double gate = c.gate_values_per_head ? 1 / (1 + std::exp(-gates[n][h])) : 1;
            for (int64_t d = 0; d < c.dim_head; d++) {
                mixed[n][h * c.dim_head + d] = one[n][d] * gate;
            }
        }
    }
    return product(rounding, mixed, drawn.weight(prefix + "to_out.weight"), c.dim);
}

Status draw_local_mha(Drawn &drawn) {
    LocalMHA::Config c;
    LocalMHA::Shapes s;
    drawn.text = "LocalMHA";
    c.use_rotary_pos_emb = drawn.option("rotary", 0.6);
    c.dim_head = drawn.head_width(c.use_rotary_pos_emb);
    draw_windows(drawn, c, c.use_rotary_pos_emb);
    c.dim = drawn.size(1, 300);
    c.heads = drawn.size(1, 8);
    c.prenorm = drawn.option("prenorm", 0.5);
    // Normalised heads of one channel are 1 or -1: nothing is left to compare.
    c.qk_rmsnorm = drawn.option("qk_rmsnorm", 0.2, !c.shared_qk);
    c.gate_values_per_head = drawn.option("gate", 0.3);
    s.batch = drawn.size(1, 3);
    s.length = drawn.size(1, 700);
    s.mask = drawn.option("mask", 0.4);
    s.attn_bias = drawn.option("attn_bias", 0.2, c.heads * c.window_size * slots_of(c) <= kMostBias);
    drawn.say("batch", s.batch);
    drawn.say("heads", c.heads);
    drawn.say("width", c.dim_head);
    drawn.say("length", s.length);
    drawn.say("dim", c.dim);
    drawn.products = local_products(c, s.batch, c.heads, s.length, c.dim_head) + 4 * product_of({s.batch, s.length, c.dim, c.heads * c.dim_head});
    if (drawn.too_large()) {
        return {};
    }
    LayerMaker &maker = drawn.maker;
    maker.input("x", {s.batch, s.length, c.dim});
    maker.output("out", maker.dtype(), {s.batch, s.length, c.dim});
    if (s.mask) {
        maker.random_mask("mask", {s.batch, s.length});
    }
    if (s.attn_bias) {
        maker.scores("attn_bias", {c.heads, c.window_size, slots_of(c)});
    }
    add_local_mha(drawn, c, "");
    drawn.reference = [=, &drawn](Rounding &rounding) {
        const Rows x = drawn.rows("x", s.batch * s.length, c.dim);
        const std::vector<uint8_t> mask = drawn.mask("mask");
        Rows out(x.count, c.dim);
        for (int64_t b = 0; b < s.batch; b++) {
            Rows own(s.length, c.dim);
            std::copy_n(x[b * s.length], s.length * c.dim, own.values.begin());
            const auto first = mask.begin() + (mask.empty() ? 0 : b * s.length);
            const Rows one = local_mha(drawn, rounding, c, "", own, {first, first + (mask.empty() ? 0 : s.length)}, static_cast<const float *>(drawn.memory("attn_bias")));
            std::copy(one.values.begin(), one.values.end(), out[b * s.length]);
        }
        return out;
    };
    return plan_of(drawn, LocalMHA::create(c, maker.weights()), s);
}

}  // namespace moa::workloads
