#include "workloads/layer_reference.h"

#include <bit>
#include <cmath>
#include <gtest/gtest.h>
#include <string>
#include <tuple>
#include <vector>

// The errors that the reference of layers draws cover those of a layer norm as kernels compute it: the product of what was
// given, from which the mean is taken off.
namespace moa::workloads {
namespace {

constexpr int64_t kRows = 64, kOut = 16;

float as_operand(float value, Precision precision) {
    return precision == Precision::tf32 ? std::bit_cast<float>(std::bit_cast<uint32_t>(value) & 0xffffe000u) : value;
}

struct Inputs {
    Rows x;
    std::vector<float> gain, offset, weights;

    Inputs(int64_t width, double mean)
        : x(kRows, width) {
        Random random(static_cast<uint64_t>(width));
        for (double &value : x.values) {
            value = static_cast<float>(mean + random.normal());
        }
        for (int64_t c = 0; c < width; c++) {
            gain.push_back(static_cast<float>(1 + 0.3 * random.normal()));
            offset.push_back(static_cast<float>(0.3 * random.normal()));
        }
        for (int64_t i = 0; i < kOut * width; i++) {
            weights.push_back(static_cast<float>(random.normal() / std::sqrt(static_cast<double>(width))));
        }
    }
    Rows reference(Rounding rounding) const {
        return product(rounding, layer_norm(x, gain.data(), offset.data()), weights.data(), kOut);
    }
    // In f32, as rows of `project` do.
    Rows computed(Precision precision) const {
        Rows out(kRows, kOut);
        const int64_t width = x.width;
        for (int64_t n = 0; n < kRows; n++) {
            double mean = 0, variance = 0;
            for (int64_t c = 0; c < width; c++) {
                mean += x[n][c] / static_cast<double>(width);
            }
            for (int64_t c = 0; c < width; c++) {
                variance += (x[n][c] - mean) * (x[n][c] - mean) / static_cast<double>(width);
            }
            const auto factor = static_cast<float>(1 / std::sqrt(variance + 1e-5)), shift = -static_cast<float>(mean) * factor;
            for (int64_t o = 0; o < kOut; o++) {
                float sum = 0;
                double column = 0, bias = 0;
                for (int64_t c = 0; c < width; c++) {
                    const auto at = static_cast<size_t>(o * width + c), channel = static_cast<size_t>(c);
                    const float weight = as_operand(weights[at] * gain[channel], precision);
                    sum += as_operand(static_cast<float>(x[n][c]), precision) * weight;
                    column += weight;
                    bias += static_cast<double>(weights[at]) * offset[channel];
                }
                out[n][o] = sum * factor + (shift * static_cast<float>(column) + static_cast<float>(bias));
            }
        }
        return out;
    }
};

double distance(const Rows &a, const Rows &b) {
    double most = 0;
    for (size_t i = 0; i < a.values.size(); i++) {
        most = std::fmax(most, std::fabs(a.values[i] - b.values[i]));
    }
    return most;
}

class NormErrors : public testing::TestWithParam<std::tuple<int64_t, double, Precision>> {};

TEST_P(NormErrors, AreDrawn) {
    const auto [width, mean, precision] = GetParam();
    const Inputs inputs(width, mean);
    const Rows exact = inputs.reference({});
    const double drawn = distance(inputs.reference({DType::f32, precision, 1}), exact), error = distance(inputs.computed(precision), exact);
    EXPECT_GT(error, 0);
    EXPECT_LE(error, 2 * drawn);   // random layers may be off by 4 times what is drawn
    EXPECT_LE(drawn, 60 * error);  // or anything would pass
}

INSTANTIATE_TEST_SUITE_P(Layers, NormErrors, testing::Combine(testing::Values<int64_t>(1, 2, 7, 300), testing::Values(0.0, 30.0), testing::Values(Precision::exact, Precision::tf32)));

}  // namespace
}  // namespace moa::workloads
