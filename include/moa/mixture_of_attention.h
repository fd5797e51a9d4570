#pragma once

#include "moa/coordinate_descent_router.h"
#include "moa/plan.h"
#include "moa/weights.h"

#include <cstdint>
#include <memory>
#include <optional>

namespace moa {

// Experts that each attend from a few routed queries to a few routed keys, plus an optional local branch for the rest
// (MixtureOfAttention of the package mixture-of-attention). Work is quadratic in the routed tokens only.
// Sizes of the configuration are 1 to 2^20, and one expert's weights of a product at most 2^31 - 1 elements; on GPUs a batch has at
// most 65535 entries.
// Weights: query_router.routing_token [e, c], key_value_router.routing_token [e, dim_context]; attn.* as in Attention;
// local_attn.* as in LocalMHA (prenorm as here, rotary), or null_routed_token [1, 1, c] without it. All f32.
class MOA_EXPORT MixtureOfAttention {
public:
    struct Config : RouterOptions {
        int64_t dim = 0;
        int64_t dim_context = 0;            // 0: dim
        int64_t num_routed_queries = 0;     // at least 1
        int64_t num_routed_key_values = 0;  // at least 1
        int64_t num_experts = 2;
        int64_t dim_head = 64;  // 1 to 2^20; on GPUs at most 256
        int64_t heads = 8;
        bool local_attn = false;
        int64_t local_attn_window_size = 0;  // 1 to 2^20 with local_attn
        bool prenorm = true;
        bool average_routed = false;  // a token's output is the mean over what it gathers, not the sum
        Semantics semantics = Semantics::fixed;
        // The package drops the local branch when queries are not routed; apart from the other semantics, since
        // recorded behaviour may mix them.
        std::optional<bool> drop_local_if_unrouted;
    };
    // From 0 on; no tensor and no intermediate (as [b, e, 2*h, kk, d] and [b, 3*h, n, d]) has more than 2^31 - 1 elements, sizes of 0
    // counted as 1.
    struct Shapes {
        int64_t batch = 1;
        int64_t length = 0;
        int64_t context_length = -1;  // -1: self-attention
        bool mask = false;
        bool context_mask = false;
        bool rotary = false;
        std::optional<int64_t> num_routed_queries, num_routed_key_values;  // instead of the configuration's
        bool impose_queries = false, impose_key_values = false;            // routes are inputs: within the length, none twice
    };

    static Result<MixtureOfAttention> create(const Config &config, const TensorMap &weights);

    // Inputs:  x [b, n, c]; context [b, m, dim_context] (cross-attention: no local branch, no rotary); mask [b, n];
    //          context_mask [b, m]; rotary_emb [n, d] f32 angles; imposed_queries [b, e, kq], imposed_key_values
    //          [b, e, kk] i64 when imposed. A side whose length is at most its k is not routed.
    // Output:  out [b, n, c]. Optional outputs of a routed side: query_indices [b, e, kq], key_value_indices
    //          [b, e, kk] i64; query_similarities [b, e, n], key_value_similarities [b, e, m] f32.
    Result<Plan> plan(const Shapes &shapes, const PlanOptions &options = {}) const;

private:
    struct Impl;
    explicit MixtureOfAttention(std::shared_ptr<const Impl> impl);
    std::shared_ptr<const Impl> impl_;
};

}  // namespace moa
