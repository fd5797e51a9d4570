#pragma once

#include "moa/local_attention.h"
#include "workloads/data.h"
#include "workloads/random.h"

#include <cstdint>
#include <span>
#include <vector>

// Parts of layers in double precision, after the packages' definitions and apart from the runtime, and what rounding may do to
// them: the same parts again, with errors drawn wherever a kernel rounds.
namespace moa::workloads {

// Draws rounding errors; without a dtype there are none.
class Rounding {
public:
    Rounding() = default;
    Rounding(DType dtype, Precision precision, uint64_t seed)
        : random_(seed), storage_(roundoff(dtype)), operand_(std::fmax(roundoff(dtype), inner_roundoff(dtype, precision))), tf32_(dtype == DType::f32 ? inner_roundoff(dtype, precision) : 0), sums_(1) {
    }

    double stored(double value) {
        return value * (1 + storage_ * noise());
    }
    double operand(double value) {  // of a product, weights included
        return value * (1 + operand_ * noise());
    }
    double tf32(double value, double magnitude) {  // of a factor that is rounded before a mean is taken off
        return value + tf32_ * magnitude * noise();
    }
    double sum(double value, double magnitude, int64_t terms) {
        return value + sums_ * sum_error(terms) * magnitude * noise();
    }

private:
    double noise() {
        return sums_ == 0 ? 0 : 2 * random_.uniform() - 1;
    }

    Random random_{0};
    double storage_ = 0, operand_ = 0, tf32_ = 0, sums_ = 0;
};

// Rows of channels.
struct Rows {
    int64_t count = 0, width = 0;
    std::vector<double> values;

    Rows() = default;
    Rows(int64_t rows, int64_t channels)
        : count(rows), width(channels), values(static_cast<size_t>(rows * channels)) {
    }
    double *operator[](int64_t row) {
        return values.data() + row * width;
    }
    const double *operator[](int64_t row) const {
        return values.data() + row * width;
    }
    Rows columns(int64_t first, int64_t channels) const;
    Rows picked(std::span<const int64_t> rows) const;
};

// A layer norm of rows. Kernels multiply what was given, and take the mean off the sums: these may be far larger than what is left,
// and their errors go with what they are sums of.
struct Normed {
    Rows values;
    Rows factors{};  // magnitudes of what is multiplied; no rows without a norm
    Rows means{};    // magnitudes of what is taken off
};

Rows product(Rounding &rounding, const Normed &x, const float *weights, int64_t dim_out, const float *bias = nullptr);
Rows product(Rounding &rounding, const Rows &x, const float *weights, int64_t dim_out, const float *bias = nullptr);
Rows rms_norm(const Rows &x, const float *gain);
Normed layer_norm(const Rows &x, const float *gain, const float *offset);
Rows l2_norm(const Rows &x, const float *gain = nullptr);
// angles: a row of `width` angles for every row of x.
Rows rotated(const Rows &x, const Rows &angles);

// Softmax attention to the keys whose mask is not 0 (none: to all) and to a null key.
Rows attend(Rounding &rounding, const Rows &q, const Rows &k, const Rows &v, const std::vector<uint8_t> &mask, const float *null_key, const float *null_value);

// Of one head. inv_freq: none without rotation. bias: [window, slots], or none. scale: of the scores.
struct LocalHead {
    LocalAttentionOptions options;
    double scale = 1;
    std::vector<float> inv_freq{};
    const float *bias = nullptr;
};
Rows attend_locally(Rounding &rounding, const LocalHead &head, const Rows &q, const Rows &k, const Rows &v, const std::vector<uint8_t> &mask);

}  // namespace moa::workloads
