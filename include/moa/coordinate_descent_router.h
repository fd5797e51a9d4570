#pragma once

#include "moa/plan.h"
#include "moa/weights.h"

#include <cstdint>
#include <memory>
#include <optional>

namespace moa {

// Options of coordinate-descent routing, as in the package colt5-attention. Numbers are used as floats: they must be finite as such,
// and one that is not 0 must not become 0. Every layer refuses others when it is created.
struct RouterOptions {
    bool straight_through = true;    // scores of selected tokens are 1 (0 where masked) instead of the soft scores
    int64_t n_iters = 20;            // 1 to 4096
    double fetch_k_ratio = 9.0 / 8;  // >= 1: coordinate descent aims at k * ratio tokens
    double eps = 0.03;               // positive
    double eps_decay = 0.7;          // from 0 on; above 1 every epsilon of n_iters must be finite, too
    std::optional<double> eps_init = 4.0;
    bool cosine_sim_routing = false;
    double cosine_sim_scale = 8;              // not 0 with cosine_sim_routing
    std::optional<int64_t> route_block_size;  // route inside blocks of that many positions, at least 1 and at most the length; what
                                              // is left at the end is never selected, and its soft scores are 0
};

// Selects the k tokens of a sequence that are most similar to learned routing tokens, and scores them by entropic
// top-k relaxation (Lei et al., "Conditional Adapters", arXiv:2304.04947, section 3; CoLT5, arXiv:2303.09752).
// dim and num_routing_tokens are 1 to 2^20, their product is at most 2^31 - 1. On GPUs a batch has at most 65535 entries.
// Weights: routing_token [num_routing_tokens, dim], unless learned_routing_tokens.
class MOA_EXPORT CoordinateDescentRouter {
public:
    struct Config : RouterOptions {
        int64_t dim = 0;
        int64_t num_routing_tokens = 1;
        bool learned_routing_tokens = false;  // the package's name: routing tokens are an input of every call
        Semantics semantics = Semantics::fixed;
    };
    struct Shapes {
        int64_t batch = 1;
        int64_t length = 0;      // no tensor has more than 2^31 - 1 elements, sizes of 0 counted as 1
        int64_t num_tokens = 0;  // from 0 on; of each block, that many divided by the number of blocks, rounded up
        bool mask = false;
        bool impose = false;       // take `imposed_indices` instead of selecting: within [0, length), none twice for a router
        bool soft_scores = false;  // offer soft_scores even if straight_through does not need them
    };

    static Result<CoordinateDescentRouter> create(const Config &config, const TensorMap &weights);

    // Inputs:  x [b, n, c]; mask [b, n]; routing_tokens [b, r, c] f32 with learned_routing_tokens; imposed_indices
    //          [b, r, k] i64 when imposed.
    // Outputs, each optional: indices [b, r, k] i64 (absent when nothing is routed: n <= k), scores [b, r, k] f32,
    //          tokens [b, r, k, c], mask_out [b, r, k] boolean, as 0 or 1 (when there is a mask); when routed, similarities [b, r, n] f32
    //          and, if computed, soft_scores [b, r, n] f32.
    //          Selected tokens come in the order of their rank: valid before masked, similarity descending, index.
    Result<Plan> plan(const Shapes &shapes, const PlanOptions &options = {}) const;

private:
    struct Impl;
    explicit CoordinateDescentRouter(std::shared_ptr<const Impl> impl);
    std::shared_ptr<const Impl> impl_;
};

}  // namespace moa
