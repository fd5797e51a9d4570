#pragma once

#include "generators/codegen/kernel.h"
#include "generators/row_moments.h"

namespace moa {

// stats(n, q, b): q = 0 the sum of squares of row n of x(c, n, b), 1 its mean, 2 its biased variance.
struct RowStatistics {
    Halide::ImageParam x;
    Halide::Var n{"n"}, q{"q"}, b{"b"};
    RowMoments moments;
    Halide::Func stats{"stats"};

    std::vector<Halide::Argument> arguments() const;
    std::vector<Halide::Func> outputs() const;
};

RowStatistics make_row_statistics(Halide::Type storage, const Values &statics);

}  // namespace moa
