#include "moa/attention.h"
#include "moa/feed_forward.h"
#include "moa/mixture_of_attention.h"

#include "runtime/layers/routing.h"
#include "workloads/data.h"
#include "workloads/layer_maker.h"

// The cases of the suite "reference", which bench/cases.py states a second time for PyTorch, by name.
namespace moa::workloads {

namespace {

// Projections of `queries` and `keys` tokens an expert, and attention from each query to every key and the null key.
void count_attention(LayerMaker &maker, int64_t experts, int64_t queries, int64_t keys, int64_t dim, int64_t dim_context, int64_t inner) {
    maker.count_products({experts, queries, inner}, dim);
    maker.count_products({experts, keys, 2 * inner}, dim_context);
    maker.count_products({experts, queries, keys + 1}, inner);  // scores of all heads
    maker.count_products({experts, queries, inner}, keys + 1);  // mix of values
    maker.count_products({experts, queries, dim}, inner);
}

// Projections of every token, and attention to the window on each side and the position itself.
void count_local(LayerMaker &maker, int64_t length, int64_t dim, int64_t inner, int64_t window) {
    maker.count_products({length, 3 * inner}, dim);
    maker.count_products({length, 2 * window + 1}, inner);
    maker.count_products({length, inner}, 2 * window + 1);
    maker.count_products({length, dim}, inner);
}

void add_attention_weights(LayerMaker &maker, const std::string &prefix, int64_t experts, int64_t dim, int64_t dim_context, int64_t heads, int64_t dim_head) {
    const int64_t inner = heads * dim_head;
    maker.parameter(prefix + "null_kv", {2, experts, heads, 1, dim_head});
    maker.gain(prefix + "norm.gamma", {experts, dim, 1});
    maker.gain(prefix + "context_norm.gamma", {experts, dim_context, 1});
    maker.matrix(prefix + "to_q.weight", {experts * inner, dim, 1}, dim);
    maker.matrix(prefix + "to_kv.weight", {experts * 2 * inner, dim_context, 1}, dim_context);
    maker.matrix(prefix + "to_out.weight", {experts * dim, inner, 1}, inner);
}

void add_mixture_weights(LayerMaker &maker, const MixtureOfAttention::Config &c) {
    maker.parameter("query_router.routing_token", {c.num_experts, c.dim});
    maker.parameter("key_value_router.routing_token", {c.num_experts, c.dim_context});
    add_attention_weights(maker, "attn.", c.num_experts, c.dim, c.dim_context, c.heads, c.dim_head);
    if (!c.local_attn) {
        maker.parameter("null_routed_token", {1, 1, c.dim});
        return;
    }
    const int64_t inner = c.heads * c.dim_head;
    maker.gain("local_attn.norm.weight", {c.dim});
    maker.zeros("local_attn.norm.bias", {c.dim});
    maker.matrix("local_attn.to_qkv.weight", {3 * inner, c.dim}, c.dim);
    maker.matrix("local_attn.to_out.weight", {c.dim, inner}, inner);
    maker.angles("local_attn.attn_fn.rel_pos.inv_freq", c.dim_head);
}

Status mixture(LayerMaker &maker, const MixtureOfAttention::Config &c, const MixtureOfAttention::Shapes &shapes) {
    const bool self = shapes.context_length < 0;
    const int64_t n = shapes.length, m = self ? n : shapes.context_length, inner = c.heads * c.dim_head;
    maker.input("x", {shapes.batch, n, c.dim});
    if (!self) {
        maker.input("context", {shapes.batch, m, c.dim_context});
    }
    if (shapes.mask) {
        maker.mask("mask", {shapes.batch, n});
    }
    maker.output("out", maker.dtype(), {shapes.batch, n, c.dim});
    add_mixture_weights(maker, c);
    const int64_t experts = shapes.batch * c.num_experts;
    maker.count_products({experts, n}, c.dim);
    maker.count_products({experts, m}, c.dim_context);
    count_attention(maker, experts, c.num_routed_queries, c.num_routed_key_values, c.dim, c.dim_context, inner);
    if (c.local_attn) {
        count_local(maker, shapes.batch * n, c.dim, inner, c.local_attn_window_size);
    }
    const Result<MixtureOfAttention> layer = MixtureOfAttention::create(c, maker.weights());
    if (!layer.ok()) {
        return layer.status();
    }
    maker.plan([layer = *layer, shapes](const PlanOptions &options) { return layer.plan(shapes, options); });
    return {};
}

MixtureOfAttention::Config mixture_config(int64_t experts, int64_t queries, int64_t key_values) {
    MixtureOfAttention::Config config;
    config.dim = config.dim_context = 512;
    config.num_experts = experts;
    config.num_routed_queries = queries;
    config.num_routed_key_values = key_values;
    return config;
}

Status moa_cross_readme(LayerMaker &maker) {
    MixtureOfAttention::Config config = mixture_config(2, 16, 32);
    config.dim_context = 256;
    MixtureOfAttention::Shapes shapes;
    shapes.length = 1024;
    shapes.context_length = 512;
    shapes.mask = true;
    return mixture(maker, config, shapes);
}

template<int64_t kBatch>
Status moa_self_4096_e4(LayerMaker &maker) {
    MixtureOfAttention::Config config = mixture_config(4, 1024, 1024);
    config.local_attn = true;
    config.local_attn_window_size = 128;
    MixtureOfAttention::Shapes shapes;
    shapes.batch = kBatch;
    shapes.length = 4096;
    return mixture(maker, config, shapes);
}

template<int64_t kBatch>
Status moa_self_8192_e2(LayerMaker &maker) {
    MixtureOfAttention::Shapes shapes;
    shapes.batch = kBatch;
    shapes.length = 8192;
    return mixture(maker, mixture_config(2, 4096, 4096), shapes);
}

Status moa_self_32768_e4(LayerMaker &maker) {
    MixtureOfAttention::Config config = mixture_config(4, 4096, 4096);
    config.dim = config.dim_context = 1024;
    config.heads = 16;
    MixtureOfAttention::Shapes shapes;
    shapes.length = 32768;
    return mixture(maker, config, shapes);
}

// Attention alone: what libraries call scaled dot product attention, or with a mask over keys and a null key.
struct AttentionShape {
    int64_t tokens = 0, heads = 0, dim = 0;
    bool masked = false;
};

Result<Plan> attention_plan(const AttentionShape &s, const PlanOptions &options) {
    PlanBuilder builder(options);
    const std::vector<int64_t> shape{1, 1, s.heads, s.tokens, s.dim};
    const Handle q = builder.input("q", builder.dtype(), shape), k = builder.input("k", builder.dtype(), shape), v = builder.input("v", builder.dtype(), shape);
    std::vector<Handle> only_masked;
    if (s.masked) {
        only_masked = {builder.input("mask", DType::boolean, {1, 1, s.tokens}), builder.input("null_key", DType::f32, {1, s.heads, s.dim}),
                       builder.input("null_value", DType::f32, {1, s.heads, s.dim})};
    }
    const Handle out = builder.output("out", builder.dtype(), shape);
    builder.step("attention", [=](const Frame &f) {
        ops::Attention a;
        a.q = f[q];
        a.k = f[k];
        a.v = f[v];
        a.has_null = s.masked;
        if (s.masked) {
            a.mask = f[only_masked[0]];
            a.null_key = f[only_masked[1]];
            a.null_value = f[only_masked[2]];
        } else {
            a.mask = broadcast(ops::one_u8(3), {s.tokens, 1, 1});
            a.null_key = a.null_value = broadcast(ops::zero_f32(3), {s.dim, s.heads, 1});
            a.null_key.axes[0].stride = a.null_value.axes[0].stride = 1;
        }
        a.scale = 1 / std::sqrt(static_cast<float>(s.dim));
        a.out = f[out];
        return a;
    });
    return builder.finish();
}

template<int64_t kTokens, int64_t kHeads, int64_t kDim, bool kMasked = false>
Status attention(LayerMaker &maker) {
    constexpr AttentionShape s{kTokens, kHeads, kDim, kMasked};
    for (const char *name : {"q", "k", "v"}) {
        maker.input(name, {1, 1, s.heads, s.tokens, s.dim});
    }
    if (s.masked) {
        maker.random_mask("mask", {1, 1, s.tokens});
        maker.scores("null_key", {1, s.heads, s.dim});
        maker.scores("null_value", {1, s.heads, s.dim});
    }
    maker.output("out", maker.dtype(), {1, 1, s.heads, s.tokens, s.dim});
    maker.count_products({s.heads, s.tokens, s.tokens + (s.masked ? 1 : 0)}, 2 * s.dim);
    maker.plan([s](const PlanOptions &options) { return attention_plan(s, options); });
    return {};
}

template<int64_t kRows, int64_t kIn, int64_t kOut>
Status project(LayerMaker &maker) {
    Linear::Config config;
    config.dim_in = kIn;
    config.dim_out = kOut;
    config.rms_norm = config.bias = false;
    maker.input("x", {1, kRows, kIn});
    maker.output("out", maker.dtype(), {1, kRows, kOut});
    maker.matrix("weight", {kOut, kIn}, kIn);
    maker.count_products({kRows, kOut}, kIn);
    const Result<Linear> layer = Linear::create(config, maker.weights());
    if (!layer.ok()) {
        return layer.status();
    }
    maker.plan([layer = *layer](const PlanOptions &options) { return layer.plan(1, kRows, options); });
    return {};
}

template<int64_t kLength>
Status dense(LayerMaker &maker) {
    Attention::Config config;
    config.dim = config.dim_context = 512;
    config.prenorm = true;
    Attention::Shapes shapes;
    shapes.queries = kLength;
    maker.input("x", {1, 1, kLength, config.dim});
    maker.output("out", maker.dtype(), {1, 1, kLength, config.dim});
    add_attention_weights(maker, "", 1, config.dim, config.dim, config.heads, config.dim_head);
    count_attention(maker, 1, kLength, kLength, config.dim, config.dim, config.heads * config.dim_head);
    const Result<Attention> layer = Attention::create(config, maker.weights());
    if (!layer.ok()) {
        return layer.status();
    }
    maker.plan([layer = *layer, shapes](const PlanOptions &options) { return layer.plan(shapes, options); });
    return {};
}

// A router on given scores [b, n], as layers string it together when scores are soft: coordinate descent, selection in
// index order, slots and scores of the selected.
Result<Plan> router_plan(int64_t batch, int64_t length, int64_t k, const PlanOptions &options) {
    PlanBuilder builder(options);
    RouterOptions router;
    router.straight_through = false;
    const Handle scores = builder.input("scores", DType::f32, {batch, 1, length});
    RoutingRequest request{.name = "select tokens", .options = router, .batch = batch, .length = length, .routers = 1, .k = k};
    request.similarities = scores;
    const Handle indices = builder.output("indices", DType::i64, {batch, 1, k});
    const Handle soft_scores = builder.output("soft_scores", DType::f32, {batch, 1, k});
    const Routing routing = route(builder, request);
    if (builder.ok()) {
        write_indices(builder, routing.indices, indices);
        write_copy(builder, routing.scores, soft_scores);
    }
    return builder.finish();
}

template<int64_t kLength, int64_t kTokens>
Status router(LayerMaker &maker) {
    constexpr int64_t kBatch = 8;
    maker.scores("scores", {kBatch, 1, kLength});
    maker.output("indices", DType::i64, {kBatch, 1, kTokens});
    maker.output("soft_scores", DType::f32, {kBatch, 1, kTokens});
    // An iteration, and the last line that gives the scores: add, minimum, product, exponential, sum. Then a comparison.
    const double iterations = static_cast<double>(RouterOptions().n_iters) + 1;
    maker.count_flops(product_of({kBatch, kLength}) * (5 * iterations + 1));
    maker.plan([](const PlanOptions &options) { return router_plan(kBatch, kLength, kTokens, options); });
    return {};
}

}  // namespace

std::span<const LayerCase> layer_cases() {
    static const LayerCase cases[] = {
        {"moa_cross_readme", "the package's example: x [1, 1024, 512], context [1, 512, 256], mask; 2 experts, 16 queries and 32 keys routed", false, false, moa_cross_readme},
        {"moa_self_4096_e4", "x [1, 4096, 512]; 4 experts, 1024 queries and keys routed; local window 128", false, false, moa_self_4096_e4<1>},
        {"moa_self_8192_e2", "x [1, 8192, 512]; 2 experts, 4096 queries and keys routed", false, false, moa_self_8192_e2<1>},
        {"dense_1024", "plain attention, x [1, 1024, 512]", false, false, dense<1024>},
        {"dense_4096", "plain attention, x [1, 4096, 512]", false, false, dense<4096>},
        {"dense_8192", "plain attention, x [1, 8192, 512]", false, false, dense<8192>},
        {"moa_self_4x4096_e4", "moa_self_4096_e4 with batch 4", false, true, moa_self_4096_e4<4>},
        {"moa_self_2x8192_e2", "moa_self_8192_e2 with batch 2", false, true, moa_self_8192_e2<2>},
        {"moa_self_32768_e4", "x [1, 32768, 1024]; 4 experts of 16 heads, 4096 queries and keys routed", false, true, moa_self_32768_e4},
        {"attention_1024x128_d64", "attention alone, 1024 tokens, 128 heads of 64", false, true, attention<1024, 128, 64>},
        {"attention_4096x32_d64", "attention alone, 4096 tokens, 32 heads of 64", false, true, attention<4096, 32, 64>},
        {"attention_16384x16_d64", "attention alone, 16384 tokens, 16 heads of 64", false, true, attention<16384, 16, 64>},
        {"attention_4096x32_d64_masked", "attention_4096x32_d64 with a random mask over keys, a third hidden, and a null key", false, true, attention<4096, 32, 64, true>},
        {"attention_1024x128_d128", "attention alone, 1024 tokens, 128 heads of 128", false, true, attention<1024, 128, 128>},
        {"attention_4096x32_d128", "attention alone, 4096 tokens, 32 heads of 128", false, true, attention<4096, 32, 128>},
        {"attention_16384x16_d128", "attention alone, 16384 tokens, 16 heads of 128", false, true, attention<16384, 16, 128>},
        {"attention_4096x32_d128_masked", "attention_4096x32_d128 with a random mask over keys, a third hidden, and a null key", false, true, attention<4096, 32, 128, true>},
        {"local_16384x8_d64", "local attention alone, 16384 tokens, 8 heads of 64, windows of 128 and rotary positions", false, false, local_case},
        {"project_4096x512x512", "a product of 4096 rows of 512 with weights [512, 512]", false, true, project<4096, 512, 512>},
        {"project_16384x512x1536", "a product of 16384 rows of 512 with weights [1536, 512]", false, true, project<16384, 512, 1536>},
        {"project_4096x1024x3072", "a product of 4096 rows of 1024 with weights [3072, 1024]", false, true, project<4096, 1024, 3072>},
        {"project_8192x8192x8192", "a product of 8192 rows of 8192 with weights [8192, 8192]", false, true, project<8192, 8192, 8192>},
        {"router_8x4096_k512", "20 iterations of coordinate descent and selection of 512 on scores [8, 4096]", true, false, router<4096, 512>},
        {"router_8x32768_k4096", "20 iterations of coordinate descent and selection of 4096 on scores [8, 32768]", true, false, router<32768, 4096>},
    };
    return cases;
}

}  // namespace moa::workloads
