#pragma once

#include "moa/plan.h"
#include "moa/weights.h"

#include <cstdint>
#include <memory>
#include <optional>

namespace moa {

// Numbers are used as floats: they must be finite as such, and one that is not 0 must not become 0.
struct LocalAttentionOptions {
    int64_t window_size = 0;  // 1 to 2^20
    bool causal = false;
    int64_t look_backward = 1;            // 0 to 64
    std::optional<int64_t> look_forward;  // 0 to 64; 0 if causal, else 1
    bool shared_qk = false;               // keys are normalised; a query sees itself only if nothing else is there
    bool exact_windowsize = false;        // at most window_size * look_backward positions back, * look_forward ahead
    std::optional<double> scale;          // of the scores; 1 / sqrt(head_dim)
    bool use_xpos = false;
    std::optional<double> xpos_scale_base;  // window_size / 2; not 0, and not so small that factors of slots leave the range of floats
};

// Attention of every query to the windows around its own (the package local-attention), with rotary positions by slot.
// Weights: rel_pos.inv_freq [d/2] f32, if the layer is to rotate.
class MOA_EXPORT LocalAttention {
public:
    struct Config : LocalAttentionOptions {
        int64_t dim_head = 0;  // 1 to 2^20, even with rotary; on GPUs at most 256
        bool autopad = false;  // lengths need not be multiples of the window; without a mask the padding is attended to
        bool rotary = false;
    };
    // From 0 on; no tensor has more than 2^31 - 1 elements, sizes of 0 counted as 1.
    struct Shapes {
        int64_t batch = 1;
        int64_t heads = 1;
        int64_t length = 0;
        bool mask = false;
        bool attn_bias = false;
    };

    static Result<LocalAttention> create(const Config &config, const TensorMap &weights);

    // Inputs:  q, k, v [b, h, n, d]; mask [b, n]; attn_bias [h, w, (look_backward + 1 + look_forward) * w] f32.
    // Output:  out [b, h, n, d].
    Result<Plan> plan(const Shapes &shapes, const PlanOptions &options = {}) const;

private:
    struct Impl;
    explicit LocalAttention(std::shared_ptr<const Impl> impl);
    std::shared_ptr<const Impl> impl_;
};

// Projections around LocalAttention (LocalMHA of the package local-attention). dim, dim_head and heads are 1 to 2^20, to_qkv.weight has
// at most 2^31 - 1 elements, and so have all tensors and intermediates (the largest is [b, 3*h, n, d]).
// Weights: norm.weight, norm.bias [c] (prenorm); to_qkv.weight [3*h*d, c]; to_out.weight [c, h*d];
// attn_fn.rel_pos.inv_freq [d/2] (rotary); q_scale, k_scale [d] (qk_rmsnorm); to_v_gate.0.weight [h, c], .bias [h].
class MOA_EXPORT LocalMHA {
public:
    struct Config : LocalAttentionOptions {
        int64_t dim = 0;
        int64_t dim_head = 64;  // 1 to 2^20; on GPUs at most 256
        int64_t heads = 8;
        bool prenorm = false;
        bool qk_rmsnorm = false;
        double qk_scale = 8;  // of the scores, instead of `scale`, with qk_rmsnorm
        bool use_rotary_pos_emb = true;
        bool gate_values_per_head = false;

        Config() {
            exact_windowsize = true;
        }
    };
    struct Shapes {
        int64_t batch = 1;
        int64_t length = 0;
        bool mask = false;
        bool attn_bias = false;
    };

    static Result<LocalMHA> create(const Config &config, const TensorMap &weights);

    // Inputs: x [b, n, c]; mask [b, n]; attn_bias [h, w, l] f32. Output: out [b, n, c].
    Result<Plan> plan(const Shapes &shapes, const PlanOptions &options = {}) const;

private:
    struct Impl;
    explicit LocalMHA(std::shared_ptr<const Impl> impl);
    std::shared_ptr<const Impl> impl_;
};

}  // namespace moa
