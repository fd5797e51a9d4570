#pragma once

#include "workloads/data.h"
#include "workloads/workload.h"

#include <algorithm>
#include <vector>

namespace moa::workloads {

// The reference follows the published definition window by window: gather the slots, rotate, mask, softmax.
class LocalAttention : public OpInstance<ops::LocalAttention> {
public:
    LocalAttention(const Shape &shape, DType dtype, uint64_t seed);

    // Every pair inside the reach of an exact window, or of the windows' slots.
    double flops() const override {
        const Extents &q = q_->extents();
        const auto &a = arguments_;
        const int64_t reach = a.exact ? slots() - a.window + 1 : slots();
        return 4 * product_of({q[0], q[1], q[2], q[3], std::min(reach, q[1])});
    }

protected:
    std::vector<Expected> reference() const override;

private:
    struct Operands {
        Array q, k, v, mask, q_cos, q_sin, k_cos, k_sin, q_gain, k_gain, bias, gate;
    };
    int64_t slots() const {
        return static_cast<int64_t>(arguments_.look_backward + 1 + arguments_.look_forward) *
               arguments_.window;
    }
    void one_query(const Operands &from, int64_t i, int64_t h, int64_t b, Expected &out) const;
    bool allowed(const Operands &from, int64_t i, int64_t j, int64_t b) const;
    void mix(const Operands &from, const std::vector<double> &logits, const std::vector<bool> &visible, double logit_error, int64_t i,
             int64_t h, int64_t b, Expected &out) const;
    void add_tables(const Shape &shape);
    static void plant_nan(Array &k, Array &v, const Array &mask);
    bool exact_scores_ = false;

    Tensor *q_, *k_, *v_, *mask_, *q_cos_, *q_sin_, *k_cos_, *k_sin_, *q_gain_, *k_gain_, *bias_, *gate_,
        *out_;
};

}  // namespace moa::workloads
