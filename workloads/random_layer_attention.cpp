#include "moa/attention.h"

#include "workloads/random_layer_kinds.h"

#include <algorithm>
#include <tuple>
#include <utility>

namespace moa::workloads {

Rows Drawn::angles(std::string_view name, int64_t count, int64_t width) const {
    const auto *values = static_cast<const float *>(memory(name));
    Rows angles(count, width);
    std::copy_n(values, count * width, angles.values.begin());
    return angles;
}

Rows part_of(const Rows &all, int64_t first, int64_t count) {
    Rows part(count, all.width);
    std::copy_n(all[first], count * all.width, part.values.begin());
    return part;
}

std::vector<uint8_t> part_of(const std::vector<uint8_t> &all, int64_t first, int64_t count) {
    return all.empty() ? all : std::vector<uint8_t>(all.begin() + first, all.begin() + first + count);
}

namespace {

std::vector<double> factors(const Drawn &drawn, std::string_view name, int64_t first, int64_t count) {
    const auto *values = static_cast<const float *>(drawn.memory(name));
    return values == nullptr ? std::vector<double>() : std::vector<double>(values + first, values + first + count);
}

double factor(const std::vector<double> &all, int64_t at) {
    return all.empty() ? 1 : all[static_cast<size_t>(at)];
}

}  // namespace

void add_attention(Drawn &drawn, const AttentionGroup &of, int64_t groups) {
    LayerMaker &maker = drawn.maker;
    const int64_t inner = of.heads * of.dim_head;
    maker.parameter(of.prefix + "null_kv", {2, groups, of.heads, 1, of.dim_head});
    if (of.prenorm) {
        maker.parameter(of.prefix + "norm.gamma", {groups, of.dim, 1});
        maker.parameter(of.prefix + "context_norm.gamma", {groups, of.dim_context, 1});
    }
    maker.matrix(of.prefix + "to_q.weight", {groups * inner, of.dim, 1}, of.dim);
    maker.matrix(of.prefix + "to_kv.weight", {groups * 2 * inner, of.dim_context, 1}, of.dim_context);
    maker.matrix(of.prefix + "to_out.weight", {groups * of.dim, inner, 1}, inner);
}

Rows attention_group(const Drawn &drawn, Rounding &rounding, const AttentionGroup &of, const Rows &given, const Rows &given_context) {
    const int64_t inner = of.heads * of.dim_head, groups = drawn.maker.weights().at(of.prefix + "null_kv").shape[1];
    const Rows x = of.prenorm ? rms_norm(given, drawn.weight(of.prefix + "norm.gamma") + of.group * of.dim) : given;
    const Rows context = of.prenorm ? rms_norm(given_context, drawn.weight(of.prefix + "context_norm.gamma") + of.group * of.dim_context) : given_context;
    const Rows q = product(rounding, x, drawn.weight(of.prefix + "to_q.weight") + of.group * inner * of.dim, inner);
    const Rows kv = product(rounding, context, drawn.weight(of.prefix + "to_kv.weight") + of.group * 2 * inner * of.dim_context, 2 * inner);
    const float *null_key = drawn.weight(of.prefix + "null_kv") + of.group * inner, *null_value = null_key + groups * inner;
    const auto scaled = [](Rows rows, const std::vector<double> &scale) {
        for (int64_t n = 0; n < rows.count; n++) {
            std::transform(rows[n], rows[n] + rows.width, rows[n], [&](double value) { return value * factor(scale, n); });
        }
        return rows;
    };
    Rows mixed(x.count, inner);
    for (int64_t h = 0; h < of.heads; h++) {
        Rows query = q.columns(h * of.dim_head, of.dim_head), key = kv.columns(h * of.dim_head, of.dim_head);
        if (of.query_angles.count > 0) {
            query = rotated(query, of.query_angles);
            key = rotated(key, of.key_angles);
        }
        const Rows value = scaled(kv.columns(inner + h * of.dim_head, of.dim_head), of.value_scale);
        const Rows one = attend(rounding, scaled(query, of.query_scale), scaled(key, of.key_scale), value, of.mask, null_key + h * of.dim_head, null_value + h * of.dim_head);
        for (int64_t n = 0; n < x.count; n++) {
            std::copy_n(one[n], of.dim_head, mixed[n] + h * of.dim_head);
        }
    }
    return scaled(product(rounding, mixed, drawn.weight(of.prefix + "to_out.weight") + of.group * of.dim * inner, of.dim), of.output_scale);
}

Status draw_attention(Drawn &drawn) {
    Attention::Config c;
    Attention::Shapes s;
    drawn.text = "Attention";
    s.rotary = drawn.option("rotary", 0.3);
    c.dim_head = drawn.head_width(s.rotary);
    c.dim = drawn.size(1, 300);
    const bool self = drawn.option("self", 0.3);
    c.dim_context = self ? c.dim : drawn.size(1, 300);
    c.heads = drawn.size(1, 8);
    c.groups = drawn.size(1, 3);
    c.prenorm = drawn.option("prenorm", 0.5);
    s.batch = drawn.size(1, 3);
    s.queries = drawn.size(1, 700);
    s.keys = self ? -1 : drawn.size(1, 700);
    s.mask = drawn.option("mask", 0.5);
    s.group_mask = drawn.option("group_mask", 0.5, s.mask);
    s.queries_scale = drawn.option("queries_scale", 0.2);
    s.keys_scale = drawn.option("keys_scale", 0.2);
    s.values_scale = drawn.option("values_scale", 0.2);
    s.output_scale = drawn.option("output_scale", 0.2);
    const int64_t m = self ? s.queries : s.keys, inner = c.heads * c.dim_head;
    for (const auto &[name, value] : {std::pair{"dim", c.dim}, {"context", c.dim_context}, {"heads", c.heads}, {"width", c.dim_head}, {"groups", c.groups}, {"batch", s.batch}, {"queries", s.queries}, {"keys", m}}) {
        drawn.say(name, value);
    }
    drawn.products = product_of({s.batch, c.groups, inner}) * (2 * product_of({s.queries, m}) + 2 * product_of({s.queries, c.dim}) + 2 * product_of({m, c.dim_context}));
    if (drawn.too_large()) {
        return {};
    }
    LayerMaker &maker = drawn.maker;
    maker.input("x", {s.batch, c.groups, s.queries, c.dim});
    if (!self) {
        maker.input("context", {s.batch, c.groups, m, c.dim_context});
    }
    if (s.mask && s.group_mask) {
        maker.random_mask("mask", {s.batch, c.groups, m});
    } else if (s.mask) {
        maker.random_mask("mask", {s.batch, m});
    }
    for (const auto &[wanted, name, length] : {std::tuple{s.queries_scale, "queries_scale", s.queries}, {s.keys_scale, "keys_scale", m}, {s.values_scale, "values_scale", m}, {s.output_scale, "output_scale", s.queries}}) {
        if (wanted) {
            maker.scores(name, {s.batch, c.groups, length});
        }
    }
    if (s.rotary) {
        maker.scores("q_rotary_emb", {s.batch, c.groups, s.queries, c.dim_head});
        maker.scores("k_rotary_emb", {s.batch, c.groups, m, c.dim_head});
    }
    maker.output("out", maker.dtype(), {s.batch, c.groups, s.queries, c.dim});
    const AttentionGroup common{.dim = c.dim, .dim_context = c.dim_context, .heads = c.heads, .dim_head = c.dim_head, .prenorm = c.prenorm};
    add_attention(drawn, common, c.groups);
    drawn.reference = [=, &drawn](Rounding &rounding) {
        const int64_t n = s.queries, parts = s.batch * c.groups;
        const Rows x = drawn.rows("x", parts * n, c.dim), context = self ? x : drawn.rows("context", parts * m, c.dim_context);
        Rows out(x.count, c.dim);
        for (int64_t part = 0; part < parts; part++) {
            AttentionGroup of = common;
            of.group = part % c.groups;
            of.mask = part_of(drawn.mask("mask"), (s.group_mask ? part : part / c.groups) * m, m);
            of.query_scale = factors(drawn, "queries_scale", part * n, n);
            of.output_scale = factors(drawn, "output_scale", part * n, n);
            of.key_scale = factors(drawn, "keys_scale", part * m, m);
            of.value_scale = factors(drawn, "values_scale", part * m, m);
            if (s.rotary) {
                of.query_angles = part_of(drawn.angles("q_rotary_emb", parts * n, c.dim_head), part * n, n);
                of.key_angles = part_of(drawn.angles("k_rotary_emb", parts * m, c.dim_head), part * m, m);
            }
            const Rows one = attention_group(drawn, rounding, of, part_of(x, part * n, n), part_of(context, part * m, m));
            std::copy(one.values.begin(), one.values.end(), out[part * n]);
        }
        return out;
    };
    const Result<Attention> layer = Attention::create(c, maker.weights());
    if (layer.ok()) {
        maker.plan([layer = *layer, s](const PlanOptions &options) { return layer.plan(s, options); });
    }
    return layer.status();
}

}  // namespace moa::workloads
