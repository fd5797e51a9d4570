#pragma once

#include "moa/moa.h"

#include <cstdint>
#include <map>
#include <random>
#include <string>
#include <vector>

namespace moa::tests {

inline std::vector<float> normal_values(size_t count, uint32_t seed, float scale = 1) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal(0, scale);
    std::vector<float> values(count);
    for (float &value : values) {
        value = normal(random);
    }
    return values;
}

// Weights that live as long as the object; tensors by state_dict name.
class Weights {
public:
    void add(const std::string &name, std::vector<int64_t> shape, float scale = 1) {
        size_t count = 1;
        for (const int64_t extent : shape) {
            count *= static_cast<size_t>(extent);
        }
        std::vector<float> &values = memory_[name] = normal_values(count, seed_++, scale);
        map[name] = TensorView(values.data(), DType::f32, std::span<const int64_t>(shape));
    }
    TensorMap map;

private:
    std::map<std::string, std::vector<float>> memory_;
    uint32_t seed_ = 100;
};

inline MixtureOfAttention::Config small_config() {
    MixtureOfAttention::Config config;
    config.dim = 24;
    config.num_routed_queries = 7;
    config.num_routed_key_values = 9;
    config.num_experts = 3;
    config.dim_head = 8;
    config.heads = 2;
    config.local_attn = true;
    config.local_attn_window_size = 4;
    return config;
}

inline void add_weights(Weights &weights, const MixtureOfAttention::Config &c) {
    const int64_t e = c.num_experts, inner = c.heads * c.dim_head, context = c.dim_context == 0 ? c.dim : c.dim_context;
    weights.add("query_router.routing_token", {e, c.dim});
    weights.add("key_value_router.routing_token", {e, context});
    weights.add("attn.null_kv", {2, e, c.heads, 1, c.dim_head});
    weights.add("attn.to_q.weight", {e * inner, c.dim, 1}, 0.2f);
    weights.add("attn.to_kv.weight", {e * 2 * inner, context, 1}, 0.2f);
    weights.add("attn.to_out.weight", {e * c.dim, inner, 1}, 0.2f);
    if (c.prenorm) {
        weights.add("attn.norm.gamma", {e, c.dim, 1});
        weights.add("attn.context_norm.gamma", {e, context, 1});
    }
    if (!c.local_attn) {
        weights.add("null_routed_token", {1, 1, c.dim});
        return;
    }
    if (c.prenorm) {
        weights.add("local_attn.norm.weight", {c.dim});
        weights.add("local_attn.norm.bias", {c.dim});
    }
    weights.add("local_attn.to_qkv.weight", {3 * inner, c.dim}, 0.2f);
    weights.add("local_attn.to_out.weight", {c.dim, inner}, 0.2f);
    weights.add("local_attn.attn_fn.rel_pos.inv_freq", {c.dim_head / 2});
}

}  // namespace moa::tests
