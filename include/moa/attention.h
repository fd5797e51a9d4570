#pragma once

#include "moa/plan.h"
#include "moa/weights.h"

#include <cstdint>
#include <memory>

namespace moa {

// One attention layer a group (expert), each with a learned null key and value that no mask hides (the Attention of the
// package mixture-of-attention). Exact softmax attention with online statistics (FlashAttention, arXiv:2205.14135):
// memory is linear in the number of tokens.
// Sizes of the configuration are 1 to 2^20, and one group's weights of a product at most 2^31 - 1 elements.
// Weights: null_kv [2, e, h, 1, d]; norm.gamma [e, c, 1] and context_norm.gamma [e, dim_context, 1] with prenorm;
// to_q.weight [e*h*d, c, 1]; to_kv.weight [e*2*h*d, dim_context, 1]; to_out.weight [e*c, h*d, 1]. All f32.
class MOA_EXPORT Attention {
public:
    struct Config {
        int64_t dim = 0;
        int64_t dim_context = 0;  // 0: dim
        int64_t dim_head = 64;    // 1 to 2^20; on GPUs at most 256
        int64_t heads = 8;
        int64_t groups = 1;
        bool prenorm = false;
        Semantics semantics = Semantics::fixed;
    };
    // batch, queries and keys from 0 on, as long as no tensor and no intermediate (as [b, e, 2*h, m, d]) has more than 2^31 - 1
    // elements; sizes of 0 count as 1 there. Without keys, heads are at most 4096 wide. Rotary positions need an even dim_head.
    struct Shapes {
        int64_t batch = 1;
        int64_t queries = 0;
        int64_t keys = -1;  // of the context; -1: self-attention, x is the context
        bool mask = false;
        bool group_mask = false;  // the mask is [b, e, m] instead of [b, m]
        bool queries_scale = false, keys_scale = false, values_scale = false, output_scale = false;
        bool rotary = false;
    };

    static Result<Attention> create(const Config &config, const TensorMap &weights);

    // Inputs:  x [b, e, n, c]; context [b, e, m, dim_context]; mask [b, m] or [b, e, m] over keys; queries_scale and
    //          output_scale [b, e, n], keys_scale and values_scale [b, e, m], f32: factors of a token's query, output,
    //          key and value; q_rotary_emb [b, e, n, d], k_rotary_emb [b, e, m, d]: angles, f32 (expand by strides of 0).
    // Output:  out [b, e, n, c].
    Result<Plan> plan(const Shapes &shapes, const PlanOptions &options = {}) const;

private:
    struct Impl;
    explicit Attention(std::shared_ptr<const Impl> impl);
    std::shared_ptr<const Impl> impl_;
};

}  // namespace moa
