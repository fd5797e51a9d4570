#pragma once

#include "tools/cases/case_layer.h"
#include "tools/cases/host_tensor.h"

#include <cstdint>
#include <string>
#include <vector>

namespace moa::tools {

// How an output differs from what was wanted.
struct OutputReport {
    std::string name;
    int64_t elements = 0;
    int64_t wrong = 0;           // elements beyond their tolerance
    int64_t nan_mismatches = 0;  // of them, where one side is NaN or infinite and the other not
    // Of the element with the largest error by its tolerance.
    double error = 0, tolerance = 0, got = 0, want = 0;
    std::vector<int64_t> index;

    bool pass() const {
        return wrong == 0;
    }
    std::string describe() const;
};

// Recorded cases in f32: absolute, and relative above 1.
constexpr double kF32Tolerance = 1e-4;

// Of every element of `want`. Besides kF32Tolerance, outputs that are stored in a narrow type may differ by what rounding
// to it does on the way; so may f32 from products of tf32.
//
// Every number that is stored so has a relative error of at most u (2^-8 for bf16), evenly spread and independent of the
// others', so of deviation u / sqrt(3). A sum of n products grows with the root of n, and so do its terms' errors: rounding
// all terms once moves it by u / sqrt(3) of its own root mean square, whatever n is (Higham & Mary, SIAM J. Sci. Comput. 41,
// 2019). The sums themselves are f32, whose 2^-24 sqrt(n) counts for nothing beside u. So S roundings one after the other
// give a deviation of u sqrt(S / 3) of the row's root mean square. Rounding errors of an attention score z move its weight
// exp(z) by as much relatively as z absolutely: they count with the square of the scores' deviation. The largest of n normal
// errors is sqrt(2 ln n) deviations. The last rounding, that of the output itself, is bounded by u of each element.
//
// Of the recorded cases, errors are 1.5 to 4.5 times smaller than this (tests/golden/wrong_layer_test.cpp: what it refuses).
std::vector<double> tolerances(const HostTensor &want, double roundoff, const Roundings &roundings);

// got[order[i]] against want[i], or got[i] without an order.
OutputReport compare_values(const CaseOutput &output, const HostTensor &got, const HostTensor &want, const std::vector<double> &tolerance);

// What the rule selects by these similarities, by rank, as [b, r, k].
HostTensor select_by_rule(const Selection &selection, const HostTensor &similarities, const HostTensor *mask, int64_t k);

// Indices must be the wanted ones. Where the order is by index, both are compared by rank. Positions whose similarities
// are nearer than `near` (relative above 1) may stand for each other.
OutputReport compare_selection(const CaseOutput &output, const HostTensor &got, const HostTensor &want, const HostTensor &similarities, const HostTensor *mask,
                               double near);

}  // namespace moa::tools
