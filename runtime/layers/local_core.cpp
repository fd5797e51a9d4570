#include "runtime/layers/local_core.h"

#include "runtime/layers/local_tables.h"

#include <cmath>
#include <utility>

namespace moa {

namespace {

// xpos scales slots by zeta ^ (distance from the middle / base), with the smallest zeta for channel 0: 0.4 / 1.4. Queries are scaled
// by that times `scale`, keys by its inverse.
bool xpos_fits(const LocalWindows &w) {
    constexpr double kSmallestZeta = 0.4 / 1.4;
    const auto slots = static_cast<double>(w.slots());
    const double power = std::pow(kSmallestZeta, -(slots / 2 + 1) / std::abs(w.xpos_scale_base));
    return std::isfinite(static_cast<float>(power)) && std::isfinite(static_cast<float>(power * w.scale));
}

}  // namespace

Result<LocalWindows> windows_of(OptionCheck &check, const LocalAttentionOptions &o, int64_t dim_head) {
    LocalWindows w;
    w.window = o.window_size;
    w.causal = o.causal;
    w.look_backward = o.look_backward;
    w.look_forward = o.look_forward.value_or(o.causal ? 0 : 1);
    w.exact = o.exact_windowsize;
    w.shared_qk = o.shared_qk;
    w.dim_head = dim_head;
    w.scale = o.scale.value_or(1 / std::sqrt(static_cast<double>(dim_head)));
    w.use_xpos = o.use_xpos;
    const int64_t half_window = o.window_size / 2;
    w.xpos_scale_base = o.xpos_scale_base.value_or(static_cast<double>(half_window));
    check.integer("window_size", w.window, 1, kLargestWindow);
    check.integer("look_backward", w.look_backward, 0, kFarthestLook).integer("look_forward", w.look_forward, 0, kFarthestLook);
    check.that(!w.causal || w.look_forward == 0, [&] { return text("causal attention cannot look_forward {} windows", w.look_forward); });
    check.number("scale", w.scale);
    if (w.use_xpos || o.xpos_scale_base) {
        check.that(o.xpos_scale_base || half_window > 0, [&] { return text("xpos_scale_base is 0 (half of window_size {}): give one", w.window); });
        check.nonzero("xpos_scale_base", w.xpos_scale_base);
    }
    if (w.use_xpos && check.status().ok()) {
        check.that(xpos_fits(w), [&] { return text("xpos_scale_base {} makes factors of {} slots that leave the range of floats", w.xpos_scale_base, w.slots()); });
    }
    return check.status().ok() ? Result<LocalWindows>(w) : Result<LocalWindows>(check.status());
}

void local_attention(PlanBuilder &builder, const LocalWindows &w, const LocalRequest &r) {
    const int64_t d = w.dim_head, B = r.batch, H = r.heads, N = r.length;
    // A bias has its own entry for every slot, and is as large as they are.
    const SeenWindows seen = r.bias ? all_windows(w) : seen_windows(w, N, static_cast<bool>(r.mask));
    if (!builder.ok() || !builder.fits("a table of slots", {seen.slots(), d})) {
        return;
    }
    SlotTables tables = slot_tables(w, seen);
    const int64_t slots = seen.slots();
    const Handle q_cos = builder.constant(share(std::move(tables.q_cos)), {slots, d}), q_sin = builder.constant(share(std::move(tables.q_sin)), {slots, d});
    const Handle k_cos = builder.constant(share(std::move(tables.k_cos)), {slots, d}), k_sin = builder.constant(share(std::move(tables.k_sin)), {slots, d});
    const std::vector<float> ones(static_cast<size_t>(d), 1.f);
    const Handle q_gain = builder.constant(share(w.q_gain.empty() ? ones : w.q_gain), {d});
    const Handle k_gain = builder.constant(share(w.k_gain.empty() ? ones : w.k_gain), {d});
    const LocalWindows windows = w;
    const DType dtype = builder.dtype();
    builder.step("local attention", [=](const Frame &f) {
        ops::LocalAttention a;
        a.q = r.q(f);
        a.k = r.k(f);
        a.v = r.v(f);
        a.mask = r.mask ? f[r.mask] : broadcast(ops::one_u8(2), {N, B});
        a.q_cos = f[q_cos];
        a.q_sin = f[q_sin];
        a.k_cos = f[k_cos];
        a.k_sin = f[k_sin];
        a.q_gain = f[q_gain];
        a.k_gain = f[k_gain];
        a.bias = r.bias ? f[r.bias] : broadcast(ops::zero_f32(3), {slots, seen.window, H});
        a.gate = r.gate ? f[r.gate] : broadcast(ops::zero_of(dtype, 3), {H, N, B});
        a.window = static_cast<int32_t>(seen.window);
        a.look_backward = static_cast<int32_t>(seen.look_backward);
        a.look_forward = static_cast<int32_t>(seen.look_forward);
        a.left_out = static_cast<int32_t>(seen.left_out);
        a.left_outside = static_cast<int32_t>(seen.left_outside);
        a.zero_keys = static_cast<int32_t>(seen.zero_keys);
        a.causal = windows.causal;
        a.exact = windows.exact;
        a.shared_qk = windows.shared_qk;
        a.normalize_q = windows.normalize_q;
        a.normalize_k = windows.normalize_k;
        a.has_bias = static_cast<bool>(r.bias);
        a.has_gate = static_cast<bool>(r.gate);
        a.has_mask = static_cast<bool>(r.mask);
        a.turned = windows.inv_freq.empty() && windows.scale > 0;
        a.out = r.out(f);
        return a;
    });
}

namespace {

// A product of a layer norm's output, or of its input if there is no norm: the gain goes into the weights, the offset's
// product into the bias.
std::shared_ptr<const PreparedLinear> normed_product(std::vector<float> weights, std::vector<float> bias, int64_t out, const std::vector<float> &gain,
                                                     const std::vector<float> &offset) {
    const int64_t in = static_cast<int64_t>(weights.size()) / out;
    bias.resize(static_cast<size_t>(out), 0.f);
    for (int64_t o = 0; o < out && !offset.empty(); o++) {
        double sum = bias[o];
        for (int64_t i = 0; i < in; i++) {
            sum += static_cast<double>(weights[o * in + i]) * offset[i];
        }
        bias[o] = static_cast<float>(sum);
    }
    if (!gain.empty()) {
        fold_gain(weights, gain, in);
    }
    return std::make_shared<const PreparedLinear>(1, out, in, std::move(weights), std::move(bias));
}

// Whether a product may turn queries and keys: the angle between the two depends on their distance alone, by position as by
// slot. Not with powers by slot, nor where something comes between product and rotation; and only heads that rows for tensor
// cores take.
bool may_turn_early(const LocalCore &core) {
    const LocalWindows &w = core.windows;
    const bool plain = !core.gated && !w.shared_qk && !w.normalize_q && !w.normalize_k;
    return plain && w.exact && !w.inv_freq.empty() && !w.use_xpos && (w.dim_head == 32 || w.dim_head == 64 || w.dim_head == 128);
}

// Queries are turned as if they were in the last of their windows' slots, look_forward windows after their own. Weights (and
// biases) that turn them by that much leave the rotation by position to the product.
std::vector<float> queries_ahead(std::vector<float> weights, const LocalWindows &w, int64_t heads) {
    const int64_t d = w.dim_head, half = d / 2, in = static_cast<int64_t>(weights.size()) / (3 * heads * d);
    for (int64_t row = 0; row < heads * d; row++) {
        const int64_t j = row % d;
        if (j >= half) {
            continue;
        }
        const double angle = static_cast<double>(w.look_forward * w.window) * static_cast<double>(w.inv_freq[j]);
        const double cosine = std::cos(angle), sine = std::sin(angle);
        for (int64_t i = 0; i < in; i++) {
            float &first = weights[row * in + i], &second = weights[(row + half) * in + i];
            const double a = first, b = second;
            first = static_cast<float>(a * cosine - b * sine);
            second = static_cast<float>(b * cosine + a * sine);
        }
    }
    return weights;
}

std::shared_ptr<const PreparedLinear> turned_qkv(const LocalCore &core) {
    LocalCore::TurnedQkv &turned = *core.turned_qkv;
    turned.once.call([&] {
        const PreparedLinear &qkv = *core.to_qkv;
        turned.linear = std::make_unique<const std::shared_ptr<const PreparedLinear>>(
            std::make_shared<const PreparedLinear>(1, qkv.dim_out(), qkv.dim_in(), queries_ahead(qkv.weights(), core.windows, core.heads),
                                                   queries_ahead(qkv.bias(), core.windows, core.heads)));
        return true;
    });
    return *turned.linear;
}

}  // namespace

Result<LocalCore> read_local_core(const LocalMHA::Config &c, WeightReader &weights, const std::string &prefix) {
    OptionCheck check("LocalMHA");
    check.size("dim", c.dim).size("dim_head", c.dim_head).size("heads", c.heads).matrix("to_qkv.weight", {3, c.heads, c.dim_head, c.dim});
    check.number("qk_scale", c.qk_scale);
    check.that(!c.use_rotary_pos_emb || c.dim_head % 2 == 0, [&] { return text("rotary positions need an even dim_head, not {}", c.dim_head); });
    LocalAttentionOptions options = c;
    if (c.qk_rmsnorm) {
        options.scale = c.qk_scale;
    }
    Result<LocalWindows> windows = windows_of(check, options, c.dim_head);
    if (!windows.ok()) {
        return windows.status();
    }
    LocalCore core{.dim = c.dim, .dim_head = c.dim_head, .heads = c.heads, .prenorm = c.prenorm, .gated = c.gate_values_per_head, .windows = *windows};
    const int64_t inner = c.heads * c.dim_head, dim = c.dim;
    if (c.use_rotary_pos_emb) {
        core.windows.inv_freq = weights.take(prefix + "attn_fn.rel_pos.inv_freq", {c.dim_head / 2});
    }
    if (c.qk_rmsnorm) {
        core.windows.normalize_q = core.windows.normalize_k = true;
        core.windows.q_gain = weights.take(prefix + "q_scale", {c.dim_head});
        core.windows.k_gain = weights.take(prefix + "k_scale", {c.dim_head});
    }
    std::vector<float> gain, offset, gate, gate_bias;
    if (c.prenorm) {
        gain = weights.take(prefix + "norm.weight", {dim});
        offset = weights.take(prefix + "norm.bias", {dim});
    }
    if (c.gate_values_per_head) {
        gate = weights.take(prefix + "to_v_gate.0.weight", {c.heads, dim});
        gate_bias = weights.take(prefix + "to_v_gate.0.bias", {c.heads});
    }
    std::vector<float> qkv = weights.take(prefix + "to_qkv.weight", {3 * inner, dim}), out = weights.take(prefix + "to_out.weight", {dim, inner});
    if (!weights.ok()) {
        return weights.status();
    }
    core.to_qkv = normed_product(std::move(qkv), {}, 3 * inner, gain, offset);
    if (c.gate_values_per_head) {
        core.to_gate = normed_product(std::move(gate), std::move(gate_bias), c.heads, gain, offset);
    }
    core.to_out = std::make_shared<const PreparedLinear>(1, dim, inner, std::move(out));
    return core;
}

namespace {

Rotary rotary_by_position(PlanBuilder &builder, const LocalWindows &w, int64_t length) {
    const int64_t d = w.dim_head, half = d / 2;
    if (!builder.fits("a table of positions", {length, d})) {
        return {};
    }
    std::vector<float> cosines(static_cast<size_t>(length * d)), sines(cosines.size());
    for (int64_t n = 0; n < length; n++) {
        for (int64_t j = 0; j < half; j++) {
            const double angle = static_cast<double>(n) * static_cast<double>(w.inv_freq[j]);
            cosines[n * d + j] = cosines[n * d + half + j] = static_cast<float>(std::cos(angle));
            sines[n * d + j] = sines[n * d + half + j] = static_cast<float>(std::sin(angle));
        }
    }
    Rotary rotary;
    rotary.cosines = builder.constant(share(std::move(cosines)), {length, d});
    rotary.sines = builder.constant(share(std::move(sines)), {length, d});
    rotary.positions = builder.ramp({length});
    return rotary;
}

}  // namespace

void attend_locally(PlanBuilder &builder, const LocalCore &core, const LocalCoreRequest &r) {
    const int64_t B = r.batch, N = r.length, H = core.heads, d = core.dim_head;
    Product qkv{.name = "project local queries, keys and values", .linear = core.to_qkv, .batch = B, .heads = 3 * H};
    qkv.tokens = {.x = r.x, .stats = r.stats, .count = N};
    qkv.norm = core.prenorm ? ops::Norm::layer : ops::Norm::none;
    qkv.out = builder.temporary(builder.dtype(), {B, 1, 3 * H, N, d});
    LocalWindows windows = core.windows;
    // Rows for tensor cores attend to turned queries and keys, without a mask; f32 that is to be exact has none.
    const bool tensor_cores = builder.on_gpu() && (builder.dtype() != DType::f32 || builder.precision() == Precision::tf32);
    if (builder.ok() && tensor_cores && may_turn_early(core) && !r.bias && !r.mask) {
        qkv.linear = turned_qkv(core);
        qkv.rotary = rotary_by_position(builder, windows, N);
        qkv.rotary_heads = 2 * H;
        windows.inv_freq.clear();
    }
    project(builder, qkv);
    const auto part = [out = qkv.out, H](int64_t index) {
        return [=](const Frame &f) { return f[out].pick(3, 0).crop(2, index * H, H); };
    };
    LocalRequest local{.batch = B, .heads = H, .length = N, .q = part(0), .k = part(1), .v = part(2), .mask = r.mask, .bias = r.bias};
    if (core.gated) {
        Product gate = qkv;
        gate.name = "project gates";
        gate.linear = core.to_gate;
        gate.heads = 1;
        const Handle memory = builder.temporary(builder.dtype(), {B, N, H});
        gate.out = builder.reshape(memory, {B, 1, N, H});
        project(builder, gate);
        local.gate = memory;
    }
    const Handle mixed = builder.temporary(builder.dtype(), {B, N, H, d});
    local.out = [mixed](const Frame &f) { return f[mixed].swap(1, 2); };
    local_attention(builder, windows, local);

    Product out{.name = "project local outputs", .linear = core.to_out, .batch = B, .heads = 1};
    out.tokens = {.x = builder.reshape(mixed, {B, N, H * d}), .count = N};
    out.out = r.out;
    project(builder, out);
}

}  // namespace moa
