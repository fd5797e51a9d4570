#include "moa/mixture_of_attention.h"

#include "runtime/text.h"
#include "workloads/random_layer_kinds.h"

#include <algorithm>
#include <numeric>

namespace moa::workloads {

namespace {

// A side of a mixture: which tokens its experts take, as the run says, or all of them.
struct Side {
    const char *tokens = "", *mask = "", *indices = "", *router = "";
    int64_t length = 0, routed = 0, dim = 0;

    bool is_routed() const {
        return length > routed;
    }
    int64_t taken() const {
        return std::min(length, routed);
    }
    std::vector<int64_t> places(const Drawn &drawn, int64_t expert_of_batch) const {
        std::vector<int64_t> all(static_cast<size_t>(taken()));
        if (is_routed()) {
            std::copy_n(static_cast<const int64_t *>(drawn.memory(indices)) + expert_of_batch * routed, routed, all.begin());
        } else {
            std::iota(all.begin(), all.end(), 0);
        }
        return all;
    }
};

// The best by similarity, valid ones first, in order; near ties may go either way.
Status check_routes(const Drawn &drawn, const Side &side, int64_t batch, int64_t experts) {
    if (!side.is_routed()) {
        return {};
    }
    const Rows x = drawn.rows(side.tokens, batch * side.length, side.dim);
    const std::vector<uint8_t> mask = drawn.mask(side.mask);
    for (int64_t part = 0; part < batch * experts; part++) {
        const std::vector<int64_t> chosen = side.places(drawn, part);
        std::vector<uint8_t> taken(static_cast<size_t>(side.length));
        for (size_t k = 0; k < chosen.size(); k++) {
            if (chosen[k] < 0 || chosen[k] >= side.length || (k > 0 && chosen[k] <= chosen[k - 1])) {
                return {Code::internal, text("{} {} of row {} is {}", side.indices, k, part, chosen[k])};
            }
            taken[static_cast<size_t>(chosen[k])] = 1;
        }
        const float *token = drawn.weight(side.router) + part % experts * side.dim;
        double worst_taken = kInfinity, best_left = -kInfinity, error = 0;
        int64_t masked_taken = 0, valid_left = 0;
        for (int64_t n = 0; n < side.length; n++) {
            double similarity = 0, magnitude = 0;
            const double *row = x[part / experts * side.length + n];
            for (int64_t c = 0; c < side.dim; c++) {
                similarity += row[c] * token[c];
                magnitude += std::fabs(row[c] * token[c]);
            }
            error = std::max(error, 2 * sum_error(side.dim) * magnitude);
            const bool valid = mask.empty() || mask[static_cast<size_t>(part / experts * side.length + n)] != 0, is_taken = taken[static_cast<size_t>(n)] != 0;
            masked_taken += is_taken && !valid ? 1 : 0;
            valid_left += !is_taken && valid ? 1 : 0;
            worst_taken = is_taken && valid ? std::min(worst_taken, similarity) : worst_taken;
            best_left = !is_taken && valid ? std::max(best_left, similarity) : best_left;
        }
        if ((masked_taken > 0 && valid_left > 0) || best_left - worst_taken > 2 * error) {
            return {Code::internal, text("{} of row {}: a token of similarity {} is left out, one of {} taken, {} masked ones taken", side.indices, part, best_left, worst_taken, masked_taken)};
        }
    }
    return {};
}

struct Mixture {
    MixtureOfAttention::Config c;
    MixtureOfAttention::Shapes s;
    bool self = true;
    Side queries{}, keys{};

    LocalMHA::Config local() const {
        LocalMHA::Config config;
        config.dim = c.dim;
        config.dim_head = c.dim_head;
        config.heads = c.heads;
        config.window_size = c.local_attn_window_size;
        config.prenorm = c.prenorm;
        return config;
    }
    AttentionGroup group() const {
        return {.dim = c.dim, .dim_context = c.dim_context, .heads = c.heads, .dim_head = c.dim_head, .prenorm = c.prenorm, .prefix = "attn."};
    }
};

// Whether the tokens at some places are valid.
std::vector<uint8_t> picked(const std::vector<uint8_t> &mask, int64_t first, const std::vector<int64_t> &places) {
    std::vector<uint8_t> own(mask.empty() ? 0 : places.size());
    for (size_t i = 0; i < own.size(); i++) {
        own[i] = mask[static_cast<size_t>(first + places[i])];
    }
    return own;
}

// Scores of straight-through routing: 1, and 0 for masked tokens.
std::vector<double> scores_of(const std::vector<uint8_t> &valid, bool routed) {
    return routed ? std::vector<double>(valid.begin(), valid.end()) : std::vector<double>();
}

Rows mixture_entry(const Drawn &drawn, Rounding &rounding, const Mixture &m, int64_t b, const Rows &x, const Rows &context) {
    const auto &c = m.c;
    const std::vector<uint8_t> mask = drawn.mask("mask"), context_mask = drawn.mask(m.keys.mask);
    Rows sum(x.count, c.dim);
    std::vector<double> count(static_cast<size_t>(x.count));
    for (int64_t e = 0; e < c.num_experts; e++) {
        const std::vector<int64_t> from = m.queries.places(drawn, b * c.num_experts + e), to = m.keys.places(drawn, b * c.num_experts + e);
        const std::vector<uint8_t> query_valid = picked(mask, b * x.count, from);
        AttentionGroup of = m.group();
        of.group = e;
        of.mask = picked(context_mask, b * context.count, to);
        of.value_scale = scores_of(of.mask, m.keys.is_routed());
        of.output_scale = scores_of(query_valid, m.queries.is_routed());
        if (m.s.rotary) {
            const Rows angles = drawn.angles("rotary_emb", x.count, c.dim_head);
            of.query_angles = angles.picked(from);
            of.key_angles = angles.picked(to);
        }
        const Rows one = attention_group(drawn, rounding, of, x.picked(from), context.picked(to));
        for (size_t i = 0; i < from.size(); i++) {
            for (int64_t d = 0; d < c.dim; d++) {
                sum[from[i]][d] += one[static_cast<int64_t>(i)][d];
            }
            count[static_cast<size_t>(from[i])] += query_valid.empty() ? 1 : query_valid[i];
        }
    }
    if (c.local_attn) {
        const Rows local = local_mha(drawn, rounding, m.local(), "local_attn.", x, part_of(mask, b * x.count, x.count), nullptr);
        for (size_t i = 0; i < sum.values.size(); i++) {
            sum.values[i] += local.values[i];
        }
    }
    for (int64_t n = 0; n < x.count; n++) {
        const double routed = count[static_cast<size_t>(n)], all = routed + (c.local_attn ? 1 : 0);
        double divisor = 1;
        if (!m.queries.is_routed()) {
            divisor = static_cast<double>(c.num_experts + (c.local_attn ? 1 : 0));
        } else if (c.average_routed) {
            divisor = std::max(all, 1e-5);
        }
        const bool is_null = m.queries.is_routed() && !c.local_attn && routed == 0;
        const bool hidden = !mask.empty() && mask[static_cast<size_t>(b * x.count + n)] == 0;
        for (int64_t d = 0; d < c.dim; d++) {
            const double value = is_null ? drawn.weight("null_routed_token")[d] : sum[n][d] / divisor;
            sum[n][d] = hidden ? 0 : rounding.stored(value);
        }
    }
    return sum;
}

Mixture draw_sizes(Drawn &drawn) {
    Mixture m;
    auto &c = m.c;
    auto &s = m.s;
    m.self = drawn.option("self", 0.6);
    c.local_attn = drawn.option("local", 0.6, m.self);
    s.rotary = drawn.option("rotary", 0.3, m.self);
    c.dim_head = drawn.head_width(c.local_attn || s.rotary);
    c.dim = drawn.size(1, 300);
    c.dim_context = m.self ? c.dim : drawn.size(1, 300);
    c.heads = drawn.size(1, 8);
    c.num_experts = drawn.size(1, 4);
    c.prenorm = drawn.option("prenorm", 0.6);
    c.average_routed = drawn.option("average_routed", 0.3);
    c.local_attn_window_size = drawn.size(1, 128);
    s.batch = drawn.size(1, 3);
    s.length = drawn.size(1, 700);
    s.context_length = m.self ? -1 : drawn.size(1, 700);
    const int64_t context = m.self ? s.length : s.context_length;
    c.num_routed_queries = drawn.size(1, std::max<int64_t>(s.length * 5 / 4, 1));
    c.num_routed_key_values = drawn.size(1, std::max<int64_t>(context * 5 / 4, 1));
    s.mask = drawn.option("mask", 0.5);
    s.context_mask = drawn.option("context_mask", 0.5, !m.self);
    for (const auto &[name, value] : {std::pair{"dim", c.dim}, {"context", c.dim_context}, {"heads", c.heads}, {"width", c.dim_head}, {"experts", c.num_experts}, {"window", c.local_attn_window_size}, {"batch", s.batch}, {"length", s.length}, {"context_length", s.context_length}, {"queries", c.num_routed_queries}, {"keys", c.num_routed_key_values}}) {
        drawn.say(name, value);
    }
    m.queries = {"x", "mask", "query_indices", "query_router.routing_token", s.length, c.num_routed_queries, c.dim};
    m.keys = {m.self ? "x" : "context", m.self ? "mask" : "context_mask", "key_value_indices", "key_value_router.routing_token", context, c.num_routed_key_values, c.dim_context};
    const int64_t inner = c.heads * c.dim_head, n = m.queries.taken(), k = m.keys.taken();
    drawn.products = product_of({s.batch, c.num_experts, inner}) * (2 * product_of({n, k}) + 2 * product_of({n, c.dim}) + 2 * product_of({k, c.dim_context}));
    if (c.local_attn) {
        drawn.products += product_of({s.batch, s.length, inner}) * static_cast<double>(4 * c.dim + 2 * std::min(3 * c.local_attn_window_size, s.length));
    }
    return m;
}

}  // namespace

Status draw_mixture(Drawn &drawn) {
    drawn.text = "MixtureOfAttention";
    const Mixture m = draw_sizes(drawn);
    const auto &c = m.c;
    const auto &s = m.s;
    if (drawn.too_large()) {
        return {};
    }
    LayerMaker &maker = drawn.maker;
    maker.input("x", {s.batch, s.length, c.dim});
    if (!m.self) {
        maker.input("context", {s.batch, s.context_length, c.dim_context});
    }
    if (s.mask) {
        maker.random_mask("mask", {s.batch, s.length});
    }
    if (s.context_mask) {
        maker.random_mask("context_mask", {s.batch, s.context_length});
    }
    if (s.rotary) {
        maker.scores("rotary_emb", {s.length, c.dim_head});
    }
    maker.output("out", maker.dtype(), {s.batch, s.length, c.dim});
    for (const Side *side : {&m.queries, &m.keys}) {
        if (side->is_routed()) {
            maker.output(side->indices, DType::i64, {s.batch, c.num_experts, side->routed});
        }
        maker.parameter(side->router, {c.num_experts, side->dim});
    }
    add_attention(drawn, m.group(), c.num_experts);
    if (c.local_attn) {
        add_local_mha(drawn, m.local(), "local_attn.");
    } else {
        maker.parameter("null_routed_token", {1, 1, c.dim});
    }
    drawn.check = [=, &drawn] {
        Status status = check_routes(drawn, m.queries, m.s.batch, m.c.num_experts);
        return status.ok() ? check_routes(drawn, m.keys, m.s.batch, m.c.num_experts) : status;
    };
    drawn.reference = [=, &drawn](Rounding &rounding) {
        const int64_t context_length = m.keys.length;
        const Rows x = drawn.rows("x", m.s.batch * m.s.length, m.c.dim), context = m.self ? x : drawn.rows("context", m.s.batch * context_length, m.c.dim_context);
        Rows out(x.count, m.c.dim);
        for (int64_t b = 0; b < m.s.batch; b++) {
            const Rows one = mixture_entry(drawn, rounding, m, b, part_of(x, b * m.s.length, m.s.length), part_of(context, b * context_length, context_length));
            std::copy(one.values.begin(), one.values.end(), out[b * m.s.length]);
        }
        return out;
    };
    const Result<MixtureOfAttention> layer = MixtureOfAttention::create(c, maker.weights());
    if (layer.ok()) {
        maker.plan([layer = *layer, s](const PlanOptions &options) { return layer.plan(s, options); });
    }
    return layer.status();
}

}  // namespace moa::workloads
