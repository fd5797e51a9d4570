#pragma once

#include "generators/codegen/kernel.h"

namespace moa {

// Sums over the rows of x(c, n, b) from one read of it, by a warp a row: the sum of squares, the sum, and the squared distances
// from the mean. A lane takes groups of kGroup neighbouring channels; the channels after the last group go one to a lane.
//
// One pass finds the distances: a lane takes its values relative to the mean of its first group, which is near enough for
// the difference of squares, and lanes are merged by their means.
struct RowSums {
    static constexpr int kLanes = 32;
    static constexpr int kGroup = 4;
    static constexpr int kTogether = 2;  // groups that a lane reads at once
    enum Statistic { kSquares,
                     kSum,
                     kDistances,
                     kStatistics };

    // lane, sum; member of a group, group of those read at once, these
    Halide::Var l{"l"}, a{"a"}, n{"n"}, b{"b"}, v{"v"}, p{"p"}, j{"j"};
    Halide::RDom groups, rest, tail, lanes, mean_lanes;
    Halide::Func values{"values"};              // (v, p, j, l, n, b): x as f32
    Halide::Func one_by_count{"one_by_count"};  // (l): of the channels of a lane
    Halide::Func pivot{"pivot"};                // (l, n, b)
    Halide::Func raw{"raw"};                    // (l, a, n, b): relative to the pivot
    Halide::Func partial{"partial"};            // (l, a, n, b): of a lane
    Halide::Func total{"total"};                // (a, n, b): squares and sum
    Halide::Func distances{"distances"};        // (n, b)
    Halide::Expr channels;

    // Of position and batch row: the sum of squares, the mean, the variance.
    Halide::Expr statistic(const Halide::Expr &which, const Halide::Expr &position, const Halide::Expr &batch) const;
};

// Rows after the last repeat it.
RowSums make_row_sums(const Halide::ImageParam &x);

}  // namespace moa
