#pragma once

#include "moa/feed_forward.h"
#include "moa/mixture_of_attention.h"
#include "moa/plan.h"
#include "moa/safetensors.h"

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace moa::tools {

// The positions that each expert of a layer chose in one window.
struct LayerRoutes {
    int64_t experts = 0;
    std::vector<std::vector<int64_t>> queries, key_values;  // an expert each
};

// A byte model that restores masked bytes: token and position embeddings, layers of MixtureOfAttention (local branch,
// cosine routing, rotary) and FeedForward with residuals, and a normed product to logits (models/README.md).
class MaskedLm {
public:
    static constexpr int64_t kBytes = 256;

    static Result<MaskedLm> load(const std::string &path, const PlanOptions &options);

    int64_t window() const {
        return seq_len_;
    }
    int64_t vocabulary() const {
        return num_tokens_;
    }
    // Whether layers choose among that many positions; else every expert takes all of them.
    bool routed(int64_t length) const {
        return length > routed_queries_ && length > routed_key_values_;
    }
    int32_t mask_token() const {
        return mask_token_;
    }

    // tokens [batch, n], n <= window() -> logits [batch, n, vocabulary()]. routes: of batch entry 0, a layer each.
    Result<std::vector<float>> logits(std::span<const int32_t> tokens, int64_t batch, std::vector<LayerRoutes> *routes = nullptr);

    // Restores every byte `mark`. Texts longer than a window are done window by window, the last one aligned to the end.
    // Shorter ones are repeated to fill it: the model was trained on whole windows, and in texts so short that no layer
    // routes it restores 30 % of the bytes instead of 75 %.
    using Progress = std::function<void(size_t done, size_t all)>;
    Result<std::string> fill(std::string_view text, char mark, const Progress &progress = {});

    // The steps of the plans for windows of that length: what ran, and why.
    Result<std::vector<Plan::Step>> steps(int64_t batch, int64_t length);

private:
    struct Plans {
        std::vector<Plan> attention, feed_forward;
        std::vector<Plan> to_logits;  // one
        std::vector<float> angles;    // [n, d]
    };
    Result<Plans *> plans_for(int64_t batch, int64_t length);
    Status read(const SafeTensors &file);

    PlanOptions options_;
    int64_t dim_ = 0, num_tokens_ = 0, seq_len_ = 0, depth_ = 0, num_experts_ = 0, routed_queries_ = 0, routed_key_values_ = 0, dim_head_ = 0;
    int32_t mask_token_ = 0;
    std::vector<float> token_embedding_, position_embedding_, inv_freq_;
    std::vector<MixtureOfAttention> attention_;
    std::vector<FeedForward> feed_forward_;
    std::vector<Linear> to_logits_;  // one
    std::map<std::pair<int64_t, int64_t>, Plans> plans_;
};

}  // namespace moa::tools
