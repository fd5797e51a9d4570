#pragma once

#include "moa/rows.h"
#include "workloads/random.h"
#include "workloads/tensor.h"

#include <array>
#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <string_view>

// Pieces that several workloads share: data, masks and error bounds.
namespace moa::workloads {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN(), kInfinity = std::numeric_limits<double>::infinity();
inline constexpr std::array kHidden{kNan, kInfinity};  // what is written, by turns, where a mask hides it

// Products of sizes as doubles: counts of operations.
inline double product_of(std::initializer_list<int64_t> sizes) {
    double result = 1;
    for (const int64_t size : sizes) {
        result *= static_cast<double>(size);
    }
    return result;
}

// The most that rounding to a dtype changes a value. Numbers of f16 below 2^-14 lie 2^-24 apart.
inline double rounding_of(DType dtype, double value) {
    return std::fmax(roundoff(dtype) * std::fabs(value), dtype == DType::f16 ? 0x1p-25 : 0);
}
constexpr double kRoundoff = 0x1p-24;  // of f32, in which all sums are

// Relative error of a sum of n products in f32, as a multiple of the sum of magnitudes. Rounding errors are
// nearly independent, so they grow with the root of n (Higham & Mary, SIAM J. Sci. Comput. 41, 2019); 2
// deviations, and 8 for the few operations before and after the sum.
inline double sum_error(int64_t n) {
    return kRoundoff * (8 + 2 * std::sqrt(static_cast<double>(n)));
}

Array normal_array(Random &random, const Extents &extents, double deviation = 1);
Array integer_array(Random &random, const Extents &extents, int64_t magnitude);
// Small integers where results must be exact, else normal numbers.
Array data_array(Random &random, const Extents &extents, bool exact, double deviation = 1);

// Masks over positions (axis 0) of every row of the other axes.
enum class Mask : uint8_t {
    none = 0,    // one byte with strides of 0
    random = 1,  // about a third is masked
    all = 2,     // everything is masked
    rows = 3,    // every other row is fully masked
    last = 4,    // only the last position is valid
    padding = 5
};  // the second half is masked
Array mask_array(Random &random, const Extents &extents, Mask kind);
constexpr std::string_view kMaskMeaning =
    "0 none, 1 random, 2 everything masked, 3 every other row, 4 only the last valid, 5 second half masked";

}  // namespace moa::workloads
