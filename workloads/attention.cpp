#include "workloads/data.h"
#include "workloads/workload.h"

#include <algorithm>

namespace moa::workloads {

namespace {

Layout layout_of(const Shape &shape) {
    return {.pad = shape("pad"), .shift = shape("shift"), .swap = shape.has("swap")};
}

class Attention : public OpInstance<ops::Attention> {
public:
    Attention(const Shape &shape, DType dtype, uint64_t seed);

    double flops() const override {
        const Extents &q = q_->extents();
        return 4 * product_of({q[0], q[1], k_->extents()[1], q[2], q[3], q[4]});
    }

protected:
    std::vector<Expected> reference() const override;

private:
    struct Operands {
        Array q, k, v, mask, null_key, null_value;
    };
    void one_query(const Operands &from, int64_t i, int64_t h, int64_t e, int64_t b, Expected &out) const;

    Tensor *q_, *k_, *v_, *mask_, *null_key_, *null_value_, *out_;
    bool exact_scores_ = false;
};

// Scores of -2^100 and -2^101 in f32 and bf16, near the largest magnitude in f16: exact, so that every second key takes all.
void make_huge(DType dtype, Array &q, Array &k, Array &null_key) {
    const double large = dtype == DType::f16 ? 0x1p13 : 0x1p50;
    for (Array *array : {&q, &k, &null_key}) {
        std::fill(array->data.begin(), array->data.end(), 0.0);
        const int64_t d = array->extents[0], rows = d == 0 ? 0 : elements_of(array->extents) / d;
        for (int64_t row = 0; row < rows; row++) {
            array->data[row * d] = array == &q ? large : (array == &null_key ? -4 * large : (row % 2 == 0 ? -large : -2 * large));
        }
    }
}

// NaN and infinities where nothing may see them: in masked keys (unless every key of a row is masked and
// there is no null key: then all count), and in one query, for itself.
void plant_nan(Array &q, Array &k, const Array &mask, bool has_null) {
    const int64_t keys = mask.extents[0];
    for (int64_t b = 0; b < mask.extents[2]; b++) {
        for (int64_t e = 0; e < mask.extents[1]; e++) {
            const double *valid = mask.at(0, e, b);
            if (!has_null && std::find(valid, valid + keys, 1) == valid + keys) {
                continue;
            }
            for (int64_t j = 0; j < keys; j++) {
                for (int64_t h = 0; h < k.extents[2] && valid[j] == 0; h++) {
                    k(j % k.extents[0], j, h, e, b) = kHidden[j % 2];
                }
            }
        }
    }
    q(0, q.extents[1] / 2, 0, 0, 0) = kNan;
}

Attention::Attention(const Shape &shape, DType dtype, uint64_t seed)
    : OpInstance(dtype, seed) {
    const int64_t d = shape("d"), h = shape("h"), e = shape("e"), b = shape("b");
    if (shape("k") == 0 && !shape.has("null")) {
        throw ShapeError("without keys there must be a null key");
    }
    const Layout layout = layout_of(shape);
    const bool exact = shape.has("exact");
    Array mask = mask_array(random(), {shape("k"), e, b}, static_cast<Mask>(shape("mask")));
    Array q = normal_array(random(), {d, shape("q"), h, e, b}, static_cast<double>(shape("spread")) / 10);
    Array k = normal_array(random(), {d, shape("k"), h, e, b});
    Array v = data_array(random(), k.extents, exact);
    if (exact) {  // all scores are equal: outputs are means of small integers
        std::fill(q.data.begin(), q.data.end(), 0.0);
    }
    if (shape.has("nan")) {
        plant_nan(q, k, mask, shape.has("null"));
    }
    Array null_key = normal_array(random(), {d, h, e});
    if (shape.has("huge")) {
        make_huge(dtype, q, k, null_key);
    }
    q_ = &input("q", dtype, q, layout);
    k_ = &input("k", dtype, k, layout);
    v_ = &input("v", dtype, v, layout);
    mask_ = &input("mask", DType::u8, mask, {.pad = layout.pad}, shape.has("mask") ? 0 : 7);
    null_key_ = &input("null_key", DType::f32, null_key);
    null_value_ = &input("null_value", DType::f32, data_array(random(), {d, h, e}, exact));
    out_ = &output("out", dtype, q.extents, layout);
    arguments_ = {.q = q_->view(),
                  .k = k_->view(),
                  .v = v_->view(),
                  .mask = mask_->view(),
                  .null_key = null_key_->view(),
                  .null_value = null_value_->view(),
                  .scale = static_cast<float>(1 / std::sqrt(static_cast<double>(d))),
                  .has_null = shape.has("null"),
                  .out = out_->view()};
    exact_scores_ = shape.has("huge");
}

void Attention::one_query(const Operands &from, int64_t i, int64_t h, int64_t e, int64_t b,
                          Expected &out) const {
    const int64_t d = from.q.extents[0], keys = from.k.extents[1];
    const double *q = from.q.at(0, i, h, e, b), *valid = from.mask.at(0, e, b);
    const bool null = arguments_.has_null,
               uniform = !null && std::find(valid, valid + keys, 1) == valid + keys;
    const double scale = arguments_.scale;
    std::vector<double> score(keys + 1);  // the null key is the last
    std::vector<bool> visible(keys + 1);
    double most = -kInfinity, score_error = 0;
    for (int64_t j = 0; j <= keys; j++) {
        if (j < keys ? valid[j] == 0 && !uniform : !null) {
            continue;
        }
        const double *k = j < keys ? from.k.at(0, j, h, e, b) : from.null_key.at(0, h, e);
        double dot = 0, magnitude = 0;
        for (int64_t c = 0; c < d; c++) {
            dot += q[c] * k[c];
            magnitude += std::fabs(q[c] * k[c]);
        }
        visible[j] = true;
        score[j] = uniform ? 0 : dot * scale;
        most = score[j] > most || std::isnan(score[j]) ? score[j] : most;
        if (uniform || exact_scores_ || !std::isfinite(score[j])) {
            continue;
        }
        // Rows for bf16 and f16 round the null key, and may round scaled queries, to bf16.
        const double rounding = (j == keys ? 2 : 1) * inner_roundoff(dtype(), precision()) / std::sqrt(static_cast<double>(d)) * 2;
        score_error = std::fmax(score_error, (sum_error(d) + rounding) * magnitude * scale + 4 * kRoundoff * std::fabs(dot * scale));
    }
    double sum = 0;
    std::vector<double> mixed(d), magnitude(d);
    for (int64_t j = 0; j <= keys; j++) {
        if (!visible[j]) {
            continue;
        }
        const double weight = std::exp(score[j] - most),
                     *v = j < keys ? from.v.at(0, j, h, e, b) : from.null_value.at(0, h, e);
        sum += weight;
        for (int64_t c = 0; c < d; c++) {
            mixed[c] += weight * v[c];
            magnitude[c] += weight * std::fabs(v[c]);
        }
    }
    // An error of every score is a relative error of every weight; bf16 rows round the weights as well. Weights below
    // 2^-126 may be nothing.
    constexpr double kSmallestWeight = 0x1p-120;
    const double relative =
        2 * score_error + sum_error(keys + 1) + inner_roundoff(dtype(), precision());
    const auto masked_not_finite = [&](int64_t c) {
        bool found = false;
        for (int64_t j = 0; j < keys; j++) {
            found = found || (!visible[j] && !std::isfinite(from.v(c, j, h, e, b)));
        }
        return found;
    };
    for (int64_t c = 0; c < d; c++) {
        const double value = mixed[c] / sum;
        out.value(c, i, h, e, b) = value;
        out.bound(c, i, h, e, b) = relative * magnitude[c] / sum + rounding_of(dtype(), value) + kSmallestWeight;
        if (masked_not_finite(c)) {  // whoever writes masked values writes zeros
            out.bound(c, i, h, e, b) = kOpen;
        }
    }
}

std::vector<Expected> Attention::reference() const {
    const Operands from{q_->values(), k_->values(), v_->values(),
                        mask_->values(), null_key_->values(), null_value_->values()};
    const Extents &q = from.q.extents;
    Expected out{Array(q), Array(q, kInfinity)};
    for (int64_t b = 0; b < q[4]; b++) {
        for (int64_t e = 0; e < q[3]; e++) {
            for (int64_t h = 0; h < q[2]; h++) {
                for (int64_t i = 0; i < q[1]; i++) {
                    if (sampled(i + q[1] * (h + q[2] * (e + q[3] * b)), q[1] * q[2] * q[3] * q[4])) {
                        one_query(from, i, h, e, b, out);
                    }
                }
            }
        }
    }
    return {out};
}

}  // namespace

const Workload &attention_workload() {
    static const Workload workload(
        "attention", false,
        {{"b", 1, 0, 1 << 20, "batch"},
         {"e", 1, 1, 4096, "experts"},
         {"h", 1, 1, 4096, "heads"},
         {"q", 64, 0, 1 << 24, "queries"},
         {"k", 64, 0, 1 << 24, "keys, the null key not counted"},
         {"d", 64, 1, 4096, "channels of a head"},
         {"null", 0, 0, 1, "a null key and value"},
         {"mask", 0, 0, 5, kMaskMeaning},
         {"spread", 10, 0, 10000, "standard deviation of the queries, in tenths"},
         {"nan", 0, 0, 1, "NaN and infinities in masked keys, a NaN in one query"},
         {"huge", 0, 0, 1, "scores of -2^100 and less, the winners equal"},
         {"swap", 0, 0, 1, "tensors in memory as b e n h d"},
         {"pad", 0, 0, 1 << 20, "unused elements after every row"},
         {"shift", 0, 0, 63, "elements that tensors are off a 64-byte boundary"},
         {"exact", 0, 0, 1, "equal scores and values of small integers"}},
        {.smoke = {"q40_k50_d32_h2_null_mask1"},
         .regular = {"q200_k300_d64_h2_null", "q130_k257_d64_h2_e2_null_mask1_swap", "q128_k256_d128_h2",
                     "q200_k1025_d32_null_mask5", "q100_k600_d64_null_spread100",
                     "q65_k513_d48_h2_null_mask1"},
         .irregular = {"q1_k1_d1",
                       "q1_k1_d1_null",
                       "q2_k3_d2_h3_e2_b2_null_mask1_nan",
                       "q17_k31_d64_mask1_nan",
                       "q17_k31_d64_h2_mask2",
                       "q17_k31_d64_h2_mask2_null_nan",
                       "q33_k65_d32_b3_e2_mask3_null_nan_swap",
                       "q33_k65_d32_b3_e2_mask3_nan",
                       "q5_k129_d128_mask4_nan_pad3",
                       "q5_k129_d128_mask4_null_shift1",
                       "q63_k63_d40_pad1_shift1_swap",
                       "q7_k1000_d64_spread300_null",
                       "q7_k200_d64_spread3000_mask1_nan",
                       "q50_k127_d7_h2_null_mask1_nan_pad5",
                       "q64_k64_d64_exact",
                       "q64_k64_d128_exact_null_mask1",
                       "q13_k500_d96_null",
                       "q97_k2_d64_null_mask1",
                       "q31_k77_d257_null",
                       "q33_k70_d520_h2_mask1",
                       "q12_k16_d33_null_mask5_nan_swap_shift3",
                       "q0_k5_d64", "q7_k0_d64_h2_null",
                       "q4_k8_d64_b0"},
         .options = {{"q19_k45_h2_e2_b2"},
                     {"d24", "d32", "d64"},
                     {"", "null"},
                     {"", "mask1", "mask2", "mask3", "mask4", "mask5"},
                     {"", "nan"},
                     {"", "swap_pad1"},
                     {"", "exact"}},
         // Keys at100 are in the masked half.
         .not_finite = {{{"q19_k45_h2_e2_b2"}, {"d32", "d64"}, {"mask5", "mask5_null"}, {"bad1_at50", "bad2_at50", "bad2_at100", "bad3_at50"}, {"", "as1", "as2"}},
                        {{"q19_k45_h2_e2_d64_null"}, {"bad5", "bad6"}, {"", "as1", "as2"}, {"at100", "at700"}},
                        {{"q35_k333_h2"}, {"d32", "d64", "d128", "d40"}, {"mask1_bad1", "mask1_bad2", "null_bad1", "null_bad3"}, {"", "as3"}},
                        {{"q300_k300_mask5"}, {"d32", "d64", "d128"}, {"bad3_at200", "bad1_at800"}, {"", "as1"}},
                        {{"q19_k45_h2_e2_b2"}, {"mask2", "mask3"}, {"bad1", "bad2", "bad3", "null_bad1", "null_bad2"}, {"", "as2"}, {"at20", "at700"}},
                        {{"q7_k0_d64_h2_null"}, {"bad1", "bad5", "bad6"}, {"", "as1"}},
                        {{"huge_h2"}, {"q19_k45", "q300_k300"}, {"d32", "d64", "d128", "d40"}, {"", "null", "mask1", "mask3"}}},
         .perf = {"q1024_k1024_d64_h8_e4_null", "q4096_k4096_d64_h8_null", "q2048_k2048_d128_h8_null",
                  "q1024_k1024_d32_h16_e2_null_mask1", "q16_k32_d64_h8_e2_null_mask1"},
         .edges = {"q255_k17_d64", "q256_k9_d64_h2_null_mask1_nan", "q257_k70_d64_mask2_swap", "q256_k33_d32_e2_mask3_nan", "q300_k65_d32_null",
                   "q256_k16_d128_null", "q283_k37_d128_mask4_nan_b2", "q20_k96_d64_null_mask1", "q20_k97_d64_mask5", "q33_k65_d128_e2_null_mask1_nan",
                   "q9_k40_d255_null_mask1", "q17_k40_d256"}},
        [](const Shape &shape, DType dtype, uint64_t seed) -> std::unique_ptr<Instance> {
            return std::make_unique<Attention>(shape, dtype, seed);
        });
    return workload;
}

}  // namespace moa::workloads
