#include "generators/row_statistics_gpu.h"

namespace moa {

using namespace Halide;

RowStatisticsGpu make_row_statistics_gpu(Type storage, const Values &) {
    RowStatisticsGpu op;
    op.x = ImageParam(storage, 3, "x");
    op.sums = make_row_sums(op.x);
    op.stats(op.n, op.q, op.b) = op.sums.statistic(op.q, op.n, op.b);
    op.stats.output_buffer().dim(0).set_bounds(0, op.x.dim(1).extent());
    op.stats.output_buffer().dim(1).set_bounds(0, RowSums::kStatistics);
    return op;
}

std::vector<Argument> RowStatisticsGpu::arguments() const {
    return {x};
}

std::vector<Func> RowStatisticsGpu::outputs() const {
    return {stats};
}

MOA_OPERATION(RowStatisticsGpu, "row_statistics", make_row_statistics_gpu);

}  // namespace moa
