#pragma once

#include "workloads/tensor.h"

#include <cstdint>
#include <limits>
#include <string>

namespace moa::workloads {

// What a reference says of an output: values, and how far from each a correct kernel may be. A finite value asks for a finite
// one; NaN and infinities ask for the same, unless the bound is kNotFinite.
constexpr double kOpen = -1;                                             // a bound: anything will do
constexpr double kNotFinite = std::numeric_limits<double>::quiet_NaN();  // a bound: NaN will do as well as an infinity
struct Expected {
    Array value, bound;
};

struct Report {
    std::string output;  // the output that the figures are of
    double error = 0, tolerance = 0, got = 0, want = 0;
    std::string index;                  // of the element with the largest error / tolerance, innermost first
    int64_t wrong = 0;                  // elements beyond their tolerance
    int64_t nan_mismatches = 0;         // of them, where one side is NaN or infinite and the other not
    int64_t elements = 0, checked = 0;  // those that have a tolerance; the reference leaves the others open
    int64_t broken_guard_bytes = 0;
    double zeros = 0;  // share of expected values that are zero: a mostly zero output proves little

    bool ok() const {
        return wrong == 0 && broken_guard_bytes == 0;
    }
    bool mostly_zero() const {
        return zeros > 0.5;
    }
    std::string describe() const;
};

// The index of an element, innermost first, that is the place-th of a dense array.
std::string index_text(const Extents &extents, int64_t place);

Report compare(const Tensor &output, const Expected &expected);

// The worse of two reports of one run.
Report worse(const Report &a, const Report &b);

}  // namespace moa::workloads
