#include "generators/row_statistics_gpu.h"
#include "schedules/row_sums_cuda.h"

namespace moa {

using namespace Halide;

// Knobs: warps of a block and rows that each takes.
void schedule_row_statistics_gpu_cuda(RowStatisticsGpu &op, const Target &, const Values &knobs) {
    const int warps = knobs.get("warps", 4), rows = knobs.get("rows", 4), positions = warps * rows;
    RowSums &s = op.sums;
    Var chunk("chunk"), position("position"), block("block"), rest("rest");
    cuda::begin_at_zero(op.x, op.stats.output_buffer());
    op.stats.bound_extent(op.q, RowSums::kStatistics)
        .split(op.n, chunk, position, positions, TailStrategy::GuardWithIf)
        .fuse(chunk, op.b, block)
        .reorder(op.q, position, block)
        .unroll(op.q)
        .gpu_blocks(block)
        .gpu_threads(position);
    cuda::schedule_row_sums(s, LoopLevel(op.stats, block), op.x.dim(0).extent() % cuda::kVector == 0 && cuda::rows_begin_aligned(op.x.parameter()), warps, rows);
    s.total.compute_at(op.stats, block).bound_extent(s.a, RowSums::kStatistics).bound_extent(s.n, positions).gpu_threads(s.n);
    s.total.update().gpu_threads(s.n);
    s.distances.compute_at(op.stats, position);
}

MOA_SCHEDULE(RowStatisticsGpu, cuda, schedule_row_statistics_gpu_cuda);

}  // namespace moa
