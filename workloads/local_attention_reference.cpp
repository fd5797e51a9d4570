#include "workloads/local_attention.h"

namespace moa::workloads {

bool LocalAttention::allowed(const Operands &from, int64_t i, int64_t j, int64_t b) const {
    const auto &a = arguments_;
    const int64_t n = from.q.extents[1], padded = (n + a.window - 1) / a.window * a.window;
    if (j < 0 || j >= padded || (a.has_mask && (j >= n || from.mask(j, b) == 0))) {
        return false;
    }
    const int64_t back = static_cast<int64_t>(a.window) * a.look_backward,
                  forward = static_cast<int64_t>(a.window) * a.look_forward;
    if (a.causal) {
        return j <= i && (!a.exact || i - j <= back);
    }
    return !a.exact || (i - j <= back && j - i <= forward);
}

namespace {

// A key's or query's row after normalisation, gain and rotation by a slot's angles. Positions outside: -1
// outside of the padded sequence (never allowed, so not asked for), 0 in the padding.
std::vector<double> rotated(const Array &x, int64_t n, int64_t h, int64_t b, bool normalize,
                            const Array &gain, const Array &cosines, const Array &sines, int64_t slot) {
    const int64_t d = x.extents[0], half = d / 2;
    std::vector<double> row(d), result(d);
    if (n < x.extents[1]) {
        std::copy_n(x.at(0, n, h, b), d, row.begin());
    }
    double squares = 0;
    for (const double value : row) {
        squares += value * value;
    }
    for (int64_t c = 0; c < d; c++) {
        row[c] *= (normalize ? 1 / std::max(std::sqrt(squares), 1e-12) : 1) * gain(c);
    }
    for (int64_t c = 0; c < d; c++) {
        const double other = d % 2 != 0 ? 0 : (c < half ? -row[c + half] : row[c - half]);
        result[c] = row[c] * cosines(c, slot) + other * sines(c, slot);
    }
    return result;
}

}  // namespace

void LocalAttention::one_query(const Operands &from, int64_t i, int64_t h, int64_t b, Expected &out) const {
    const auto &a = arguments_;
    const int64_t d = from.q.extents[0], count = slots(), w = a.window, first = (i / w - a.look_backward) * w;
    const std::vector<double> q =
        rotated(from.q, i, h, b, a.normalize_q, from.q_gain, from.q_cos, from.q_sin, count - w + i % w);
    std::vector<double> logits(count);
    std::vector<bool> visible(count);
    // bf16 rows round rotated queries and keys to bf16.
    const double rounding =
        4 * inner_roundoff(dtype(), precision()) / std::sqrt(static_cast<double>(d));
    double error = 0;
    for (int64_t slot = 0; slot < count; slot++) {
        const int64_t j = first + slot;
        if (!allowed(from, i, j, b)) {
            continue;
        }
        visible[slot] = true;
        const std::vector<double> k =
            rotated(from.k, j, h, b, a.normalize_k, from.k_gain, from.k_cos, from.k_sin, slot);
        double dot = 0, magnitude = 0;
        for (int64_t c = 0; c < d; c++) {
            dot += q[c] * k[c];
            magnitude += std::fabs(q[c] * k[c]);
        }
        const double bias = a.has_bias ? from.bias(slot, i % w, h) : 0;
        logits[slot] = a.shared_qk && i == j ? -5e4 : dot + bias;
        if (exact_scores_ || !std::isfinite(logits[slot])) {
            continue;
        }
        error = std::fmax(error, (sum_error(d) + 8 * kRoundoff + rounding) * magnitude +
                                     4 * kRoundoff * (std::fabs(dot) + std::fabs(bias)));
    }
    if (std::find(visible.begin(), visible.end(), true) == visible.end()) {
        visible.assign(count, true);
    }
    mix(from, logits, visible, error, i, h, b, out);
}

void LocalAttention::mix(const Operands &from, const std::vector<double> &logits, const std::vector<bool> &visible, double logit_error,
                         int64_t i, int64_t h, int64_t b, Expected &out) const {
    const auto &a = arguments_;
    const int64_t d = from.q.extents[0], n = from.q.extents[1], count = slots(), w = a.window,
                  first = (i / w - a.look_backward) * w;
    const int64_t padded = (n + w - 1) / w * w;
    double most = -kInfinity;
    for (int64_t slot = 0; slot < count; slot++) {
        most = visible[slot] && (std::isnan(logits[slot]) || logits[slot] > most) ? logits[slot] : most;
    }
    double sum = 0;
    std::vector<double> mixed(d), magnitude(d);
    for (int64_t slot = 0; slot < count; slot++) {
        if (!visible[slot]) {
            continue;
        }
        const double weight = std::exp(logits[slot] - most);
        const int64_t j = first + slot;
        sum += weight;
        for (int64_t c = 0; c < d; c++) {
            const double v = j < 0 || j >= padded ? -1 : (j >= n ? 0 : from.v(c, j, h, b));
            mixed[c] += weight * v;
            magnitude[c] += weight * std::fabs(v);
        }
    }
    const double gate = a.has_gate ? 1 / (1 + std::exp(-from.gate(h, i, b))) : 1;
    const double relative =
        2 * logit_error + sum_error(count) + inner_roundoff(dtype(), precision());
    for (int64_t c = 0; c < d; c++) {
        const double value = mixed[c] / sum * gate;
        out.value(c, i, h, b) = value;
        out.bound(c, i, h, b) =
            (relative + 8 * kRoundoff) * magnitude[c] / sum * gate + rounding_of(dtype(), value);
        if (!std::isfinite(value)) {
            out.bound(c, i, h, b) = kNotFinite;
        }
    }
}

std::vector<Expected> LocalAttention::reference() const {
    const Operands from{q_->values(), k_->values(), v_->values(), mask_->values(),
                        q_cos_->values(), q_sin_->values(), k_cos_->values(), k_sin_->values(),
                        q_gain_->values(), k_gain_->values(), bias_->values(), gate_->values()};
    const Extents &q = from.q.extents;
    Expected out{Array(q), Array(q, kInfinity)};
    for (int64_t b = 0; b < q[3]; b++) {
        for (int64_t h = 0; h < q[2]; h++) {
            for (int64_t i = 0; i < q[1]; i++) {
                if (sampled(i + q[1] * (h + q[2] * b), q[1] * q[2] * q[3])) {
                    one_query(from, i, h, b, out);
                }
            }
        }
    }
    return {out};
}

}  // namespace moa::workloads
