#include "workloads/project.h"

#include <algorithm>

namespace moa::workloads {

// One output channel of one row, before the activation.
Project::Value Project::product(const Operands &from, const std::vector<double> &weights, int64_t source,
                                int64_t o, int64_t e) const {
    const int64_t n = source % sizes_.x_rows, batch = source / sizes_.x_rows, in = sizes_.in;
    const double *x = from.x.at(0, n, batch), *w = weights.data() + (e * sizes_.out() + o) * in;
    double dot = 0, magnitude = 0;
    for (int64_t c = 0; c < in; c++) {
        dot += x[c] * w[c];
        magnitude += std::fabs(x[c] * w[c]);
    }
    double r = 1, shift = 0;
    if (arguments_.norm == ops::Norm::rms) {
        r = std::sqrt(static_cast<double>(in)) / std::max(std::sqrt(from.stats(n, 0, batch)), 1e-12);
    } else if (arguments_.norm == ops::Norm::layer) {
        r = 1 / std::sqrt(from.stats(n, 2, batch) + 1e-5);
        shift = -from.stats(n, 1, batch) * r;
    }
    const double column = shift * from.colsum(o, e), bias = from.bias(o, e);
    // tf32 rounds both factors; errors of many products even out.
    const double rounding = dtype() == DType::f32 ? 2 * inner_roundoff(dtype(), precision()) * std::fmin(1, 4 / std::sqrt(static_cast<double>(in))) : 0;
    Value result{.value = dot * r + column + bias};
    result.bound = exact_ && arguments_.norm == ops::Norm::none
                       ? 0
                       : (sum_error(in) + rounding) * magnitude * std::fabs(r) +
                             8 * kRoundoff * (std::fabs(dot * r) + std::fabs(column) + std::fabs(bias));
    return result;
}

void Project::epilogue(const Operands &from, std::vector<Value> &row, int64_t m, int64_t e, int64_t b,
                       Expected &out) const {
    const ProjectSizes &s = sizes_;
    if (arguments_.activation == ops::Activation::gelu) {
        for (Value &v : row) {  // the slope of GELU is at most 1.13; erf in f32 is off by a few units
            const double gelu = v.value * 0.5 * (1 + std::erf(v.value * 0.7071067811865476));
            v = {gelu, 1.13 * v.bound + 8 * kRoundoff * std::fabs(v.value)};
        }
    }
    const auto position = static_cast<int64_t>(from.positions(m, e, b));
    const int64_t te = from.cosines.extents[2] == 1 ? 0 : e, tb = from.cosines.extents[3] == 1 ? 0 : b,
                  half = s.dim / 2;
    for (int64_t h = 0; h < s.heads; h++) {
        for (int64_t d = 0; d < s.dim; d++) {
            Value v = row[h * s.dim + d];
            if (h < arguments_.rotary_heads) {
                const Value &other = row[h * s.dim + (d < half ? d + half : d - half)];
                const double cosine = from.cosines(d, position, te, tb),
                             sine = (d < half ? -1 : 1) * from.sines(d, position, te, tb);
                const double terms[2] = {v.value * cosine, other.value * sine};
                v = {terms[0] + terms[1], std::fabs(cosine) * v.bound + std::fabs(sine) * other.bound +
                                              3 * kRoundoff * (std::fabs(terms[0]) + std::fabs(terms[1]))};
            }
            const double scale = s.scale_heads == 0 ? 1 : from.scale(m, h / s.scale_heads, e, b);
            v = scale == 0 ? Value{} : Value{v.value * scale, v.bound * std::fabs(scale)};
            const bool open = v.bound == 0;  // exact: rounded once, to the storage dtype
            out.value(d, m, h, e, b) = open ? rounded_to(dtype(), v.value) : v.value;
            out.bound(d, m, h, e, b) =
                open ? 0
                     : v.bound + 2 * kRoundoff * std::fabs(v.value) + rounding_of(dtype(), v.value);
        }
    }
}

std::vector<Expected> Project::reference() const {
    const ProjectSizes &s = sizes_;
    const Operands from{x_->values(), rows_->values(), stats_->values(),
                        colsum_->values(), bias_->values(), cosines_->values(),
                        sines_->values(), positions_->values(), scale_->values()};
    const std::vector<double> weights(panel_values_.begin(), panel_values_.end());
    Expected out{Array(out_->extents()), Array(out_->extents(), kInfinity)};
    std::vector<Value> row(s.out());
    for (int64_t b = 0; b < s.b; b++) {
        for (int64_t e = 0; e < s.e; e++) {
            for (int64_t m = 0; m < s.rows; m++) {
                if (!sampled(m + s.rows * (e + s.e * b), s.rows * s.e * s.b)) {
                    continue;
                }
                const int64_t source = s.gather ? static_cast<int64_t>(from.rows(m, e, b)) : b * s.x_rows + m;
                for (int64_t o = 0; o < s.out(); o++) {
                    row[o] = product(from, weights, source, o, e);
                }
                epilogue(from, row, m, e, b, out);
            }
        }
    }
    return {out};
}

}  // namespace moa::workloads
