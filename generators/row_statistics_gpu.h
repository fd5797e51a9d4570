#pragma once

#include "generators/row_sums.h"

namespace moa {

// The operation of row_statistics.h for schedules that give a row to a warp.
struct RowStatisticsGpu {
    Halide::ImageParam x;
    Halide::Var n{"n"}, q{"q"}, b{"b"};
    RowSums sums;
    Halide::Func stats{"stats"};

    std::vector<Halide::Argument> arguments() const;
    std::vector<Halide::Func> outputs() const;
};

RowStatisticsGpu make_row_statistics_gpu(Halide::Type storage, const Values &statics);

}  // namespace moa
