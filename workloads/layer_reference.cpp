#include "workloads/layer_reference.h"

#include <algorithm>

namespace moa::workloads {

Rows Rows::columns(int64_t first, int64_t channels) const {
    Rows part(count, channels);
    for (int64_t row = 0; row < count; row++) {
        std::copy_n((*this)[row] + first, channels, part[row]);
    }
    return part;
}

Rows Rows::picked(std::span<const int64_t> rows) const {
    Rows part(static_cast<int64_t>(rows.size()), width);
    for (int64_t row = 0; row < part.count; row++) {
        std::copy_n((*this)[rows[static_cast<size_t>(row)]], width, part[row]);
    }
    return part;
}

Rows product(Rounding &rounding, const Normed &x, const float *weights, int64_t dim_out, const float *bias) {
    const Rows &values = x.values;
    std::vector<double> rounded(static_cast<size_t>(dim_out * values.width));
    std::transform(weights, weights + rounded.size(), rounded.begin(), [&](float weight) { return rounding.operand(weight); });
    Rows out(values.count, dim_out);
    std::vector<double> row(static_cast<size_t>(values.width)), terms(row);
    for (int64_t n = 0; n < values.count; n++) {
        for (int64_t c = 0; c < values.width; c++) {
            const auto at = static_cast<size_t>(c);
            row[at] = rounding.operand(values[n][c]);
            terms[at] = std::fabs(row[at]);
            if (x.factors.count != 0) {
                row[at] = rounding.tf32(row[at], x.factors[n][c]);
                terms[at] = std::fmax(terms[at], x.factors[n][c] + x.means[n][c]);
            }
        }
        for (int64_t o = 0; o < dim_out; o++) {
            const double *w = rounded.data() + o * values.width;
            double sum = 0, magnitude = 0;
            for (int64_t c = 0; c < values.width; c++) {
                sum += row[static_cast<size_t>(c)] * w[c];
                magnitude += terms[static_cast<size_t>(c)] * std::fabs(w[c]);
            }
            out[n][o] = rounding.stored(rounding.sum(sum, magnitude, values.width) + (bias != nullptr ? bias[o] : 0));
        }
    }
    return out;
}

Rows product(Rounding &rounding, const Rows &x, const float *weights, int64_t dim_out, const float *bias) {
    return product(rounding, Normed{x}, weights, dim_out, bias);
}

Rows rms_norm(const Rows &x, const float *gain) {
    Rows out = l2_norm(x, gain);
    for (double &value : out.values) {
        value *= std::sqrt(static_cast<double>(x.width));
    }
    return out;
}

Normed layer_norm(const Rows &x, const float *gain, const float *offset) {
    Normed out{x, x, x};
    const auto width = static_cast<double>(x.width);
    for (int64_t n = 0; n < x.count; n++) {
        double mean = 0, magnitude = 0, variance = 0;
        for (int64_t c = 0; c < x.width; c++) {
            mean += x[n][c] / width;
            magnitude += std::fabs(x[n][c]) / width;
        }
        for (int64_t c = 0; c < x.width; c++) {
            variance += (x[n][c] - mean) * (x[n][c] - mean) / width;
        }
        for (int64_t c = 0; c < x.width; c++) {
            const double factor = gain[c] / std::sqrt(variance + 1e-5);
            out.values[n][c] = (x[n][c] - mean) * factor + offset[c];
            out.factors[n][c] = std::fabs(x[n][c] * factor);
            out.means[n][c] = magnitude * std::fabs(factor);
        }
    }
    return out;
}

Rows l2_norm(const Rows &x, const float *gain) {
    Rows out(x);
    for (int64_t n = 0; n < x.count; n++) {
        double squares = 0;
        for (int64_t c = 0; c < x.width; c++) {
            squares += x[n][c] * x[n][c];
        }
        for (int64_t c = 0; c < x.width; c++) {
            out[n][c] *= (gain != nullptr ? gain[c] : 1) / std::max(std::sqrt(squares), 1e-12);
        }
    }
    return out;
}

Rows rotated(const Rows &x, const Rows &angles) {
    Rows out(x);
    const int64_t half = x.width / 2;
    for (int64_t n = 0; n < x.count; n++) {
        for (int64_t c = 0; c < x.width; c++) {
            const double other = c < half ? -x[n][c + half] : x[n][c - half];
            out[n][c] = x[n][c] * std::cos(angles[n][c]) + other * std::sin(angles[n][c]);
        }
    }
    return out;
}

namespace {

double dot(Rounding &rounding, const double *a, const double *b, int64_t width) {
    double sum = 0, magnitude = 0;
    for (int64_t c = 0; c < width; c++) {
        sum += a[c] * b[c];
        magnitude += std::fabs(a[c] * b[c]);
    }
    return rounding.sum(sum, magnitude, width);
}

Rows rounded(Rounding &rounding, Rows rows) {
    for (double &value : rows.values) {
        value = rounding.operand(value);
    }
    return rows;
}

// One query's softmax: logits with the rows of values that they weigh; a null row is a row of zeros, or of minus ones.
class Softmax {
public:
    void add(double logit, const double *value, double times = 1) {
        terms_.push_back({logit, times, value});
    }
    void mix(Rounding &rounding, int64_t width, double *out) const {
        double most = -kInfinity, sum = 0;
        for (const Term &term : terms_) {
            most = std::max(most, term.logit);
        }
        std::vector<double> mixed(static_cast<size_t>(width)), magnitude(mixed);
        for (const Term &term : terms_) {
            const double weight = rounding.operand(std::exp(term.logit - most)) * term.times;
            sum += weight;
            for (int64_t c = 0; c < width && term.value != nullptr; c++) {
                mixed[static_cast<size_t>(c)] += weight * term.value[c];
                magnitude[static_cast<size_t>(c)] += weight * std::fabs(term.value[c]);
            }
        }
        for (int64_t c = 0; c < width; c++) {
            const auto at = static_cast<size_t>(c);
            out[c] = rounding.stored(rounding.sum(mixed[at] / sum, magnitude[at] / sum, static_cast<int64_t>(terms_.size())));
        }
    }
    bool empty() const {
        return terms_.empty();
    }

private:
    struct Term {
        double logit, times;
        const double *value;  // null: zeros
    };
    std::vector<Term> terms_;
};

}  // namespace

Rows attend(Rounding &rounding, const Rows &q, const Rows &k, const Rows &v, const std::vector<uint8_t> &mask, const float *null_key, const float *null_value) {
    const double scale = 1 / std::sqrt(static_cast<double>(q.width));
    const Rows keys = rounded(rounding, k), queries = rounded(rounding, q), values = rounded(rounding, v);
    const std::vector<double> first_key(null_key, null_key + q.width), first_value(null_value, null_value + q.width);
    Rows out(q.count, q.width);
    for (int64_t i = 0; i < q.count; i++) {
        Softmax softmax;
        softmax.add(dot(rounding, queries[i], first_key.data(), q.width) * scale, first_value.data());
        for (int64_t j = 0; j < k.count; j++) {
            if (mask.empty() || mask[static_cast<size_t>(j)] != 0) {
                softmax.add(dot(rounding, queries[i], keys[j], q.width) * scale, values[j]);
            }
        }
        softmax.mix(rounding, q.width, out[i]);
    }
    return out;
}

namespace {

// Angles by slot, and xpos' powers: the package's tables.
void turn(const LocalHead &head, double *row, int64_t width, int64_t slot, int64_t slots, bool key) {
    if (head.inv_freq.empty()) {
        return;
    }
    const int64_t half = width / 2;
    const std::vector<double> x(row, row + width);
    for (int64_t c = 0; c < width; c++) {
        const int64_t j = c % half;
        const double angle = static_cast<double>(slot) * static_cast<double>(head.inv_freq[static_cast<size_t>(j)]);
        double power = 1;
        if (head.options.use_xpos) {
            const double base = head.options.xpos_scale_base.value_or(static_cast<double>(head.options.window_size / 2));
            const double zeta = (2 * static_cast<double>(j) + 0.4 * static_cast<double>(width)) / (1.4 * static_cast<double>(width));
            power = std::pow(zeta, static_cast<double>(slot - slots / 2) / base);
        }
        const double other = c < half ? -x[static_cast<size_t>(c + half)] : x[static_cast<size_t>(c - half)];
        row[c] = (x[static_cast<size_t>(c)] * std::cos(angle) + other * std::sin(angle)) * (key ? 1 / power : power);
    }
}

}  // namespace

Rows attend_locally(Rounding &rounding, const LocalHead &head, const Rows &q, const Rows &k, const Rows &v, const std::vector<uint8_t> &mask) {
    const LocalAttentionOptions &o = head.options;
    const int64_t n = q.count, d = q.width, w = o.window_size, back = o.look_backward, ahead = o.look_forward.value_or(o.causal ? 0 : 1);
    const int64_t slots = (back + 1 + ahead) * w, padded = (n + w - 1) / w * w;
    const Rows keys = o.shared_qk ? l2_norm(k) : k;
    const Rows values = rounded(rounding, v);
    Rows out(n, d);
    for (int64_t i = 0; i < n; i++) {
        const int64_t first = (i / w - back) * w, in_window = i % w;
        std::vector<double> query(q[i], q[i] + d);
        turn(head, query.data(), d, slots - w + in_window, slots, false);
        std::transform(query.begin(), query.end(), query.begin(), [&](double value) { return rounding.operand(value * head.scale); });
        // Positions that the query may look at: of its windows, and within reach.
        int64_t low = std::max<int64_t>(first, 0), high = std::min(first + slots, padded) - 1;
        if (o.exact_windowsize) {
            low = std::max(low, i - w * back);
            high = o.causal ? high : std::min(high, i + w * ahead);
        }
        high = o.causal ? std::min(high, i) : high;
        Softmax softmax;
        for (int64_t j = low; j <= std::min(high, n - 1); j++) {
            if (!mask.empty() && mask[static_cast<size_t>(j)] == 0) {
                continue;
            }
            std::vector<double> key(keys[j], keys[j] + d);
            turn(head, key.data(), d, j - first, slots, true);
            std::transform(key.begin(), key.end(), key.begin(), [&](double value) { return rounding.operand(value); });
            const double added = head.bias != nullptr ? head.bias[in_window * slots + j - first] : 0;
            const double logit = dot(rounding, query.data(), key.data(), d) + added;
            softmax.add(o.shared_qk && i == j ? -5e4 : logit, values[j]);
        }
        if (mask.empty() && high >= n) {  // the padding's zeros
            if (head.bias == nullptr) {
                softmax.add(0, nullptr, static_cast<double>(high - n + 1));
            }
            for (int64_t j = n; j <= high && head.bias != nullptr; j++) {
                softmax.add(head.bias[in_window * slots + j - first], nullptr);
            }
        }
        const std::vector<double> outside(static_cast<size_t>(d), -1.0);
        if (softmax.empty()) {  // the mean of all slots
            const int64_t from = std::max<int64_t>(first, 0), to = std::min(first + slots, padded);
            softmax.add(0, outside.data(), static_cast<double>(slots - (to - from)));
            for (int64_t j = from; j < std::min(to, n); j++) {
                softmax.add(0, values[j]);
            }
            softmax.add(0, nullptr, static_cast<double>(to - std::clamp(n, from, to)));
        }
        softmax.mix(rounding, d, out[i]);
    }
    return out;
}

}  // namespace moa::workloads
