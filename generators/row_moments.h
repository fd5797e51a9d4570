#pragma once

#include "Halide.h"

// Sum of squares, mean and biased variance of the rows of x(c, n, b), for the operations that read rows whole.
// The positions wanted may be rounded up to a tile: a position beyond the last one stands for the last one.
namespace moa {

struct RowMoments {
    Halide::Var l{"l"}, n{"n"}, q{"q"}, b{"b"};
    Halide::RDom blocks;                              // whole blocks of kLanes channels
    Halide::RDom lanes, tail;                         // the partial sums, and the channels after the last whole block
    Halide::Func sum_parts{"sum_parts"};              // (l, q, n, b): q 0 squares, 1 values
    Halide::Func sums{"sums"};                        // (q, n, b)
    Halide::Func deviation_parts{"deviation_parts"};  // (l, n, b): squared distances from the mean
    Halide::Func deviations{"deviations"};            // (n, b)

    static constexpr int kLanes = 16;
    static constexpr int kStatistics = 3;

    // 0 the sum of squares, 1 the mean, 2 the variance.
    Halide::Expr statistic(const Halide::Expr &which, const Halide::Expr &position, const Halide::Expr &batch) const;

private:
    Halide::Expr channels_;
    friend RowMoments make_row_moments(const Halide::ImageParam &x);
};

RowMoments make_row_moments(const Halide::ImageParam &x);

// The channel c of the row n of x as f32, rows after the last one repeating it.
Halide::Expr row_value(const Halide::ImageParam &x, const Halide::Expr &c, const Halide::Expr &n, const Halide::Expr &b);

}  // namespace moa
