#pragma once

#include "tests/layers/random_layers.h"

#include <functional>
#include <memory>
#include <string>
#include <vector>

// Every layer with every option once, in small sizes: for what must hold whatever a layer computes.
namespace moa::tests {

struct AnyLayer {
    std::string name;
    std::function<Result<Plan>(const PlanOptions &)> make;  // creates the layer and plans it
};

template<class Layer>
AnyLayer any_layer(std::string name, typename Layer::Config config, std::shared_ptr<const Weights> weights, typename Layer::Shapes shapes) {
    return {std::move(name), [=](const PlanOptions &options) -> Result<Plan> {
                const Result<Layer> layer = Layer::create(config, weights->map);
                return layer.ok() ? layer->plan(shapes, options) : Result<Plan>(layer.status());
            }};
}

inline std::shared_ptr<const Weights> attention_weights(const Attention::Config &c) {
    auto weights = std::make_shared<Weights>();
    const int64_t inner = c.heads * c.dim_head, context = c.dim_context == 0 ? c.dim : c.dim_context;
    weights->add("null_kv", {2, c.groups, c.heads, 1, c.dim_head});
    if (c.prenorm) {
        weights->add("norm.gamma", {c.groups, c.dim, 1});
        weights->add("context_norm.gamma", {c.groups, context, 1});
    }
    weights->add("to_q.weight", {c.groups * inner, c.dim, 1}, 0.2f);
    weights->add("to_kv.weight", {c.groups * 2 * inner, context, 1}, 0.2f);
    weights->add("to_out.weight", {c.groups * c.dim, inner, 1}, 0.2f);
    return weights;
}

inline std::shared_ptr<const Weights> local_weights(const LocalMHA::Config &c) {
    auto weights = std::make_shared<Weights>();
    const int64_t inner = c.heads * c.dim_head;
    if (c.prenorm) {
        weights->add("norm.weight", {c.dim});
        weights->add("norm.bias", {c.dim});
    }
    weights->add("to_qkv.weight", {3 * inner, c.dim}, 0.2f);
    weights->add("to_out.weight", {c.dim, inner}, 0.2f);
    if (c.use_rotary_pos_emb) {
        weights->add("attn_fn.rel_pos.inv_freq", {c.dim_head / 2});
    }
    if (c.qk_rmsnorm) {
        weights->add("q_scale", {c.dim_head});
        weights->add("k_scale", {c.dim_head});
    }
    if (c.gate_values_per_head) {
        weights->add("to_v_gate.0.weight", {c.heads, c.dim});
        weights->add("to_v_gate.0.bias", {c.heads});
    }
    return weights;
}

inline void add_products(std::vector<AnyLayer> &layers) {
    auto wide = std::make_shared<Weights>();
    wide->add("0.gamma", {24});
    wide->add("1.weight", {40, 24}, 0.2f);
    wide->add("1.bias", {40});
    wide->add("3.weight", {24, 40}, 0.2f);
    wide->add("3.bias", {24});
    layers.push_back({"feed_forward", [=](const PlanOptions &options) -> Result<Plan> {
                          const Result<FeedForward> layer = FeedForward::create({24, 40}, wide->map);
                          return layer.ok() ? layer->plan(2, 13, options) : Result<Plan>(layer.status());
                      }});
    auto linear = std::make_shared<Weights>();
    linear->add("weight", {17, 24}, 0.2f);
    linear->add("gamma", {24});
    linear->add("bias", {17});
    layers.push_back({"linear", [=](const PlanOptions &options) -> Result<Plan> {
                          const Result<Linear> layer = Linear::create({24, 17, true, true}, linear->map);
                          return layer.ok() ? layer->plan(2, 13, options) : Result<Plan>(layer.status());
                      }});
}

inline void add_attention(std::vector<AnyLayer> &layers) {
    Attention::Config config{.dim = 24, .dim_head = 8, .heads = 2, .groups = 2};
    Attention::Shapes shapes{.batch = 2, .queries = 11};
    layers.push_back(any_layer<Attention>("attention", config, attention_weights(config), shapes));
    shapes.keys = 0;
    layers.push_back(any_layer<Attention>("attention_without_keys", config, attention_weights(config), shapes));
    config.prenorm = true;
    shapes.keys = 19;
    shapes.mask = shapes.queries_scale = shapes.keys_scale = shapes.values_scale = shapes.output_scale = shapes.rotary = true;
    for (const Semantics semantics : {Semantics::fixed, Semantics::reference}) {
        config.semantics = semantics;
        shapes.group_mask = semantics == Semantics::reference;
        layers.push_back(any_layer<Attention>(semantics == Semantics::fixed ? "attention_scales" : "attention_scales_reference", config, attention_weights(config), shapes));
    }
}

inline void add_routers(std::vector<AnyLayer> &layers) {
    using Router = CoordinateDescentRouter;
    auto weights = std::make_shared<Weights>();
    weights->add("routing_token", {2, 12});
    const auto add = [&](const char *name, auto change) {
        Router::Config config;
        config.dim = 12;
        config.num_routing_tokens = 2;
        Router::Shapes shapes{.batch = 2, .length = 26, .num_tokens = 5, .mask = true};
        change(config, shapes);
        layers.push_back(any_layer<Router>(std::string("router_") + name, config, config.learned_routing_tokens ? std::make_shared<Weights>() : weights, shapes));
    };
    add("plain", [](auto &, auto &) {});
    add("soft", [](auto &c, auto &) { c.straight_through = false; });
    add("soft_beside", [](auto &c, auto &s) { c.n_iters = 3, s.soft_scores = true; });
    add("blocks", [](auto &c, auto &) { c.straight_through = false, c.route_block_size = 8; });
    add("blocks_by_steps", [](auto &c, auto &s) { c.n_iters = 3, s.soft_scores = true, c.route_block_size = 8; });
    add("reference", [](auto &c, auto &) { c.semantics = Semantics::reference, c.cosine_sim_routing = true; });
    add("learned", [](auto &c, auto &) { c.learned_routing_tokens = true; });
    add("imposed", [](auto &c, auto &s) { c.straight_through = false, s.impose = true; });
    add("unrouted", [](auto &, auto &s) { s.num_tokens = 26; });
    add("nothing_selected", [](auto &, auto &s) { s.num_tokens = 0, s.soft_scores = true; });
}

inline void add_local(std::vector<AnyLayer> &layers) {
    const auto local = [&](const char *name, auto change) {
        LocalAttention::Config config;
        config.window_size = 6;
        config.dim_head = 8;
        config.autopad = config.rotary = true;
        LocalAttention::Shapes shapes{.batch = 2, .heads = 3, .length = 20};
        change(config, shapes);
        auto weights = std::make_shared<Weights>();
        if (config.rotary) {
            weights->add("rel_pos.inv_freq", {4});
        }
        layers.push_back(any_layer<LocalAttention>(std::string("local_attention_") + name, config, weights, shapes));
    };
    local("padded", [](auto &, auto &) {});
    local("causal", [](auto &c, auto &s) { c.causal = c.exact_windowsize = c.shared_qk = s.mask = true; });
    local("xpos", [](auto &c, auto &s) { c.use_xpos = s.mask = s.attn_bias = true, c.look_forward = 2; });
    local("plain", [](auto &c, auto &) { c.rotary = false, c.look_backward = 0, c.look_forward = 0; });
    const auto heads = [&](const char *name, auto change) {
        LocalMHA::Config config;
        config.dim = 24;
        config.dim_head = 8;
        config.heads = 2;
        config.window_size = 6;
        LocalMHA::Shapes shapes{.batch = 2, .length = 20};
        change(config, shapes);
        layers.push_back(any_layer<LocalMHA>(std::string("local_mha_") + name, config, local_weights(config), shapes));
    };
    heads("plain", [](auto &, auto &) {});
    heads("gated", [](auto &c, auto &s) { c.prenorm = c.qk_rmsnorm = c.gate_values_per_head = c.use_xpos = s.mask = s.attn_bias = true; });
}

inline void add_mixtures(std::vector<AnyLayer> &layers) {
    const auto add = [&](const char *name, auto change) {
        MixtureOfAttention::Config config = small_config();
        MixtureOfAttention::Shapes shapes{.batch = 2, .length = 41};
        change(config, shapes);
        auto weights = std::make_shared<Weights>();
        add_weights(*weights, config);
        layers.push_back(any_layer<MixtureOfAttention>(std::string("mixture_") + name, config, weights, shapes));
    };
    add("self", [](auto &, auto &s) { s.mask = s.rotary = true; });
    add("cross", [](auto &c, auto &s) { c.local_attn = false, c.dim_context = 16, s.context_length = 30, s.mask = s.context_mask = true; });
    add("soft_blocks", [](auto &c, auto &) { c.straight_through = false, c.route_block_size = 16, c.average_routed = true; });
    add("reference", [](auto &c, auto &s) { c.semantics = Semantics::reference, s.mask = true; });
    add("imposed", [](auto &, auto &s) { s.impose_queries = s.impose_key_values = true; });
    add("unrouted", [](auto &, auto &s) { s.length = 8, s.mask = true; });
    add("short", [](auto &c, auto &s) { c.prenorm = false, s.length = 3; });
}

inline const std::vector<AnyLayer> &every_layer() {
    static const std::vector<AnyLayer> all = [] {
        std::vector<AnyLayer> layers;
        add_products(layers);
        add_attention(layers);
        add_routers(layers);
        add_local(layers);
        add_mixtures(layers);
        return layers;
    }();
    return all;
}

}  // namespace moa::tests
