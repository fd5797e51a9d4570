#pragma once

#include "moa/plan.h"
#include "moa/weights.h"

#include <cstdint>
#include <memory>

namespace moa {

// rms norm, product with bias, GELU (erf), product with bias.
// dim and hidden are 1 to 2^20, dim * hidden is at most 2^31 - 1; so are the elements of every tensor and intermediate.
// Weights: 0.gamma [c]; 1.weight [hidden, c], 1.bias [hidden]; 3.weight [c, hidden], 3.bias [c]. All f32.
class MOA_EXPORT FeedForward {
public:
    struct Config {
        int64_t dim = 0;
        int64_t hidden = 0;
    };

    static Result<FeedForward> create(const Config &config, const TensorMap &weights);

    // Input: x [b, n, c]. Output: out [b, n, c].
    Result<Plan> plan(int64_t batch, int64_t length, const PlanOptions &options = {}) const;

private:
    struct Impl;
    explicit FeedForward(std::shared_ptr<const Impl> impl);
    std::shared_ptr<const Impl> impl_;
};

// A product with optional rms norm before it and optional bias. Limits as above.
// Weights: weight [dim_out, dim_in]; gamma [dim_in] (rms_norm); bias [dim_out] (bias). All f32.
class MOA_EXPORT Linear {
public:
    struct Config {
        int64_t dim_in = 0;
        int64_t dim_out = 0;
        bool rms_norm = false;
        bool bias = false;
    };

    static Result<Linear> create(const Config &config, const TensorMap &weights);

    // Input: x [b, n, dim_in]. Output: out [b, n, dim_out].
    Result<Plan> plan(int64_t batch, int64_t length, const PlanOptions &options = {}) const;

private:
    struct Impl;
    explicit Linear(std::shared_ptr<const Impl> impl);
    std::shared_ptr<const Impl> impl_;
};

}  // namespace moa
