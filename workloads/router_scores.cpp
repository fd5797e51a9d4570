#include "workloads/data.h"
#include "workloads/workload.h"

#include <algorithm>

namespace moa::workloads {

namespace {

// Sum of squares, mean and biased variance of one row, and how far a single pass in f32 may be from them: the
// variance may come from a mean of squares.
void row_statistics(const double *x, int64_t c, int64_t n, int64_t row, Expected &stats, int64_t batch) {
    double sum = 0, magnitude = 0, squares = 0;
    for (int64_t i = 0; i < c; i++) {
        sum += x[i];
        magnitude += std::fabs(x[i]);
        squares += x[i] * x[i];
    }
    const double mean = sum / static_cast<double>(c);
    double variance = 0;
    for (int64_t i = 0; i < c; i++) {
        variance += (x[i] - mean) * (x[i] - mean);
    }
    variance /= static_cast<double>(c);
    const double error = sum_error(c), values[3] = {squares, mean, variance};
    const double mean_bound = error * magnitude / static_cast<double>(c);
    const double bounds[3] = {error * squares, mean_bound,
                              2 * error * squares / static_cast<double>(c) +
                                  2 * std::fabs(mean) * mean_bound};
    for (int q = 0; q < 3; q++) {
        stats.value.data[(batch * 3 + q) * n + row] = values[q];
        stats.bound.data[(batch * 3 + q) * n + row] = bounds[q];
    }
}

Expected statistics_of(const Array &x) {
    const int64_t c = x.extents[0], n = x.extents[1], b = x.extents[2];
    Expected stats{Array({n, 3, b}), Array({n, 3, b})};
    for (int64_t batch = 0; batch < b; batch++) {
        for (int64_t row = 0; row < n; row++) {
            row_statistics(x.at(0, row, batch), c, n, row, stats, batch);
        }
    }
    return stats;
}

// Rows of activations; with `special`, row 0 is zero, row 1 holds a NaN and the last an infinity.
Array rows_of(Random &random, const Shape &shape) {
    const int64_t c = shape("c"), n = shape("n");
    Array x = data_array(random, {c, n, shape("b")}, shape.has("exact"));
    if (shape.has("special")) {
        x(c / 2, n - 1, 0) = kInfinity;
        std::fill_n(x.data.begin(), c, 0.0);
        if (n > 1) {
            x(c - 1, 1, 0) = kNan;
        }
    }
    return x;
}

Layout layout_of(const Shape &shape) {
    return {.pad = shape("pad"), .shift = shape("shift")};
}

class RouterScores : public OpInstance<ops::RouterScores> {
public:
    RouterScores(const Shape &shape, DType dtype, uint64_t seed)
        : OpInstance(dtype, seed), x_(input("x", dtype, rows_of(random(), shape), layout_of(shape))),
          tokens_(input("tokens", DType::f32,
                        data_array(random(), {shape("c"), shape("r"), shape.has("dynamic") ? shape("b") : 1},
                                   shape.has("exact")),
                        layout_of(shape))),
          scores_(output("scores", DType::f32, {shape("n"), shape("r"), shape("b")}, layout_of(shape))),
          stats_(output("stats", DType::f32, {shape("n"), 3, shape("b")}, layout_of(shape))) {
        arguments_ = {.x = x_.view(),
                      .tokens = tokens_.view(),
                      .cosine_scale = static_cast<float>(shape("cosine")),
                      .scores = scores_.view(),
                      .stats = stats_.view()};
        if (!shape.has("dynamic")) {
            arguments_.tokens.axes[2] = {shape("b"), 0};
        }
    }

    double flops() const override {
        const Extents &e = x_.extents();
        return 2 * product_of({e[0], e[1], e[2], tokens_.extents()[1] + 2});
    }

protected:
    std::vector<Expected> reference() const override {
        const Array x = x_.values(), tokens = tokens_.values();
        const int64_t c = x.extents[0], n = x.extents[1], b = x.extents[2], r = tokens.extents[1];
        Expected scores{Array({n, r, b}), Array({n, r, b}, kInfinity)};
        for (int64_t batch = 0; batch < b; batch++) {
            for (int64_t router = 0; router < r; router++) {
                const double *token = tokens.at(0, router, tokens.extents[2] == 1 ? 0 : batch);
                for (int64_t row = 0; row < n; row++) {
                    if (sampled(row + n * (router + r * batch), n * r * b)) {
                        score(x.at(0, row, batch), token, c, scores.value(row, router, batch),
                              scores.bound(row, router, batch));
                    }
                }
            }
        }
        return {scores, statistics_of(x)};
    }

private:
    void score(const double *x, const double *token, int64_t c, double &value, double &bound) const {
        double dot = 0, magnitude = 0, x_squares = 0, token_squares = 0;
        for (int64_t i = 0; i < c; i++) {
            dot += x[i] * token[i];
            magnitude += std::fabs(x[i] * token[i]);
            x_squares += x[i] * x[i];
            token_squares += token[i] * token[i];
        }
        double factor = 1;
        if (arguments_.cosine_scale != 0) {
            factor = arguments_.cosine_scale /
                     (std::fmax(std::sqrt(x_squares), 1e-12) * std::fmax(std::sqrt(token_squares), 1e-12));
        }
        if (std::isnan(x_squares)) {  // fmax forgets a NaN
            factor = kNan;
        }
        value = dot * factor;
        bound = sum_error(c) * (magnitude * factor + std::fabs(value));
        if (std::isinf(x_squares)) {  // infinity over infinity, or 0 times infinity
            bound = kNotFinite;
        }
    }

    Tensor &x_, &tokens_, &scores_, &stats_;
};

class RowStatistics : public OpInstance<ops::RowStatistics> {
public:
    RowStatistics(const Shape &shape, DType dtype, uint64_t seed)
        : OpInstance(dtype, seed), x_(input("x", dtype, rows_of(random(), shape), layout_of(shape))),
          stats_(output("stats", DType::f32, {shape("n"), 3, shape("b")}, layout_of(shape))) {
        arguments_ = {.x = x_.view(), .stats = stats_.view()};
    }

    double flops() const override {
        const Extents &e = x_.extents();
        return 4 * product_of({e[0], e[1], e[2]});
    }

protected:
    std::vector<Expected> reference() const override {
        return {statistics_of(x_.values())};
    }

private:
    Tensor &x_, &stats_;
};

template<class Op>
std::unique_ptr<Instance> build(const Shape &shape, DType dtype, uint64_t seed) {
    return std::make_unique<Op>(shape, dtype, seed);
}

std::vector<Key> keys_of(bool routers) {
    std::vector<Key> keys = {
        {"b", 1, 0, 1 << 20, "batch"},
        {"n", 64, 0, 1 << 24, "positions"},
        {"c", 64, 1, 1 << 20, "channels"},
        {"pad", 0, 0, 1 << 20, "unused elements after every row"},
        {"shift", 0, 0, 63, "elements that tensors are off a 64-byte boundary"},
        {"exact", 0, 0, 1, "small integers"},
        {"special", 0, 0, 1, "a row of zeros, one with a NaN, one with an infinity"},
    };
    if (routers) {
        keys.push_back({"r", 1, 1, 4096, "routers"});
        keys.push_back({"cosine", 0, 0, 64, "scale of the cosine, 0: dot products"});
        keys.push_back({"dynamic", 0, 0, 1, "routing tokens of their own for every batch row"});
    }
    return keys;
}

}  // namespace

const Workload &router_scores_workload() {
    static const Workload workload(
        "router_scores", false, keys_of(true),
        {.smoke = {"n70_c48_r2_b2"},
         .regular = {"n256_c512_r8", "n256_c512_r4_cosine8", "n200_c256_r2_b3_exact"},
         .irregular = {"n1_c1", "n1_c1_cosine8", "n7_c13_r3_b2_cosine8", "n31_c17_r5_pad3_shift1",
                       "n33_c127_r9_b2_dynamic_pad1", "n97_c257_r1_exact_shift3", "n40_c64_r4_b2_special",
                       "n40_c63_r4_cosine8_special", "n9_c1000_r33", "n0_c8", "n16_c32_b0"},
         .options = {{"n37_c70_r5_b2"},
                     {"", "cosine8"},
                     {"", "dynamic"},
                     {"", "exact"},
                     {"", "special"},
                     {"", "pad3", "shift1_pad2"}},
         .not_finite = {{{"n37_c70_r5_b2"}, {"", "dynamic"}, {"", "cosine8"}, {"bad1", "bad2"}, {"", "as1", "as2", "as3"}, {"at100", "at430"}}},
         .perf = {"n4096_c512_r8_b4", "n8192_c512_r4", "n4096_c512_r8_b4_cosine8"},
         .edges = {"n1_c8_b65535"}},
        build<RouterScores>);
    return workload;
}

const Workload &row_statistics_workload() {
    static const Workload workload(
        "row_statistics", false, keys_of(false),
        {.smoke = {"n70_c48_b2"},
         .regular = {"n256_c512", "n200_c256_b3_exact"},
         .irregular = {"n1_c1", "n7_c13_b2", "n31_c17_pad3_shift1", "n33_c127_b2_pad1",
                       "n97_c257_exact_shift3", "n40_c64_b2_special", "n9_c1000", "n0_c8", "n16_c32_b0"},
         .options = {{"n37_c70_b2"}, {"", "exact"}, {"", "special"}, {"", "pad3", "shift1_pad2"}},
         .not_finite = {{{"n37_c70_b2"}, {"bad1"}, {"", "as1", "as2", "as3"}, {"at100", "at430"}}},
         .perf = {"n4096_c512_b4", "n8192_c1024"}},
        build<RowStatistics>);
    return workload;
}

}  // namespace moa::workloads
