#include "generators/row_statistics.h"

namespace moa {

using namespace Halide;

RowStatistics make_row_statistics(Type storage, const Values &) {
    RowStatistics op;
    op.x = ImageParam(storage, 3, "x");
    op.moments = make_row_moments(op.x);
    op.stats(op.n, op.q, op.b) = op.moments.statistic(op.q, op.n, op.b);
    op.stats.output_buffer().dim(0).set_bounds(0, op.x.dim(1).extent());
    op.stats.output_buffer().dim(1).set_bounds(0, RowMoments::kStatistics);
    return op;
}

std::vector<Argument> RowStatistics::arguments() const {
    return {x};
}

std::vector<Func> RowStatistics::outputs() const {
    return {stats};
}

MOA_OPERATION(RowStatistics, "row_statistics", make_row_statistics);

}  // namespace moa
