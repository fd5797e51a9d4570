#pragma once

#include "workloads/data.h"
#include "workloads/workload.h"

#include <algorithm>

// What coordinate descent and its single steps share: the loops of the reference, their error bounds, and the
// inputs.
namespace moa::workloads::descent {

constexpr double kFetchRatio = 9.0 / 8;

struct Row {
    const double *scores;
    const double *mask;
    int64_t n;

    bool empty() const {
        return std::all_of(mask, mask + n, [](double m) { return m == 0; });
    }
    double largest() const {
        double result = 0;
        for (int64_t i = 0; i < n; i++) {
            result = mask[i] != 0 ? std::max(result, std::fabs(scores[i])) : result;
        }
        return result;
    }
};

// One iteration as in the paper: b holds one number a position. Returns a.
inline double iterate(const Row &row, double log_k, double eps, std::vector<double> &b) {
    double most = -kInfinity;
    for (int64_t i = 0; i < row.n; i++) {
        most = row.mask[i] != 0 ? std::max(most, (row.scores[i] + b[i]) / eps) : most;
    }
    double sum = 0;
    for (int64_t i = 0; i < row.n; i++) {
        sum += row.mask[i] != 0 ? std::exp((row.scores[i] + b[i]) / eps - most) : 0;
    }
    const double a = eps * (log_k - (most + std::log(sum)));
    for (int64_t i = 0; i < row.n; i++) {
        b[i] = -std::max(row.scores[i] + a, 0.0);
    }
    return a;
}

// Error of a after some iterations in f32. Each adds the rounding of its own log-sum-exp; a depends on the
// previous a with a slope of at most 1, so independent roundings add up like a root.
inline double a_error(const Row &row, double a, double log_k, double eps, int64_t iterations) {
    const double each =
        2 * kRoundoff * (row.largest() + std::fabs(a) + eps * std::fabs(log_k)) + eps * sum_error(row.n);
    return each * std::sqrt(static_cast<double>(iterations));
}

inline void finish(const Row &row, double a, double a_bound, double eps, double *y, double *bound) {
    const bool empty = row.empty();
    for (int64_t i = 0; i < row.n; i++) {
        y[i] = row.mask[i] != 0 && !empty ? std::exp(std::min(row.scores[i] + a, 0.0) / eps) : 0;
        const double exponent =
            (a_bound + 4 * kRoundoff * (std::fabs(row.scores[i]) + std::fabs(a))) / eps + 8 * kRoundoff;
        bound[i] = row.mask[i] != 0 && !empty ? y[i] * std::expm1(std::min(exponent, 700.0)) + 0x1p-125 : 0;
    }
}

// Scores and mask of all three operations.
struct Inputs {
    explicit Inputs(const Shape &shape)
        : layout{.pad = shape("pad"), .shift = shape("shift")}, mask(static_cast<Mask>(shape("mask"))) {
    }

    static Array scores(Random &random, const Shape &shape, const Array &valid) {
        Array result = normal_array(random, {shape("n"), shape("r"), shape("b")},
                                    static_cast<double>(shape("spread")) / 10);
        if (shape.has("huge")) {
            for (size_t i = 0; i < result.data.size(); i++) {
                result.data[i] = i % 2 == 0 ? -0x1p100 : -0x1p101;
            }
        }
        if (shape.has("nan")) {  // where a mask hides it
            for (size_t i = 0; i < result.data.size(); i++) {
                const auto place = static_cast<int64_t>(i);
                const int64_t n = shape("n"), position = place % n, batch = place / (n * shape("r"));
                if (valid(position, batch) == 0) {
                    result.data[i] = kHidden[place % 2];
                }
            }
        }
        return result;
    }
    uint32_t mask_broadcast() const {
        return mask == Mask::none ? 3 : 0;
    }

    Layout layout;
    Mask mask;
};

inline double log_k_of(const Shape &shape) {
    const auto n = static_cast<double>(shape("n")), k = static_cast<double>(shape("k"));
    return static_cast<float>(std::log(std::max(std::min(k * kFetchRatio, n), 1e-20)));
}

template<class Arguments>
class Base : public OpInstance<Arguments> {
public:
    Base(const Shape &shape, uint64_t seed)
        : OpInstance<Arguments>(DType::f32, seed), inputs_(shape),
          valid_(mask_array(this->random(), {shape("n"), shape("b")}, inputs_.mask)),
          scores_(this->input("scores", DType::f32, Inputs::scores(this->random(), shape, valid_),
                              inputs_.layout)),
          mask_(this->input("mask", DType::u8, valid_, inputs_.layout, inputs_.mask_broadcast())) {
        this->arguments_.scores = scores_.view();
        this->arguments_.mask = mask_.view();
    }

protected:
    // Calls visit(row, router row, batch) for every row of scores.
    template<class Visit>
    void for_rows(const Array &scores, const Array &mask, Visit visit) const {
        for (int64_t batch = 0; batch < scores.extents[2]; batch++) {
            for (int64_t router = 0; router < scores.extents[1]; router++) {
                visit(Row{scores.at(0, router, batch), mask.at(0, batch), scores.extents[0]}, router, batch);
            }
        }
    }
    double elements() const {
        return static_cast<double>(elements_of(scores_.extents()));
    }

    Inputs inputs_;
    Array valid_;
    Tensor &scores_, &mask_;
};

template<class Op>
std::unique_ptr<Instance> build(const Shape &shape, DType dtype, uint64_t seed) {
    return std::make_unique<Op>(shape, dtype, seed);
}

inline std::vector<Key> keys_with(std::initializer_list<Key> more) {
    std::vector<Key> keys = {
        {"b", 1, 0, 1 << 20, "batch"},
        {"r", 1, 1, 4096, "routers"},
        {"n", 64, 0, 1 << 24, "positions"},
        {"spread", 10, 0, 1000, "standard deviation of the scores, in tenths"},
        {"mask", 0, 0, 5, kMaskMeaning},
        {"huge", 0, 0, 1, "scores of -2^100 and -2^101 by turns"},
        {"nan", 0, 0, 1, "masked scores are NaN or infinite"},
        {"pad", 0, 0, 1 << 20, "unused elements after every row"},
        {"shift", 0, 0, 63, "elements that tensors are off a 64-byte boundary"},
    };
    keys.insert(keys.end(), more);
    return keys;
}

inline constexpr Key kTokens = {"k", 16, 1, 1 << 24, "tokens to select; the relaxation aims at 9/8 of them"};

}  // namespace moa::workloads::descent
