#include "generators/row_statistics.h"
#include "schedules/row_moments_cpu.h"

namespace moa {

using namespace Halide;

// Knobs: rows, the positions whose sums advance together; task_tiles, how many such tiles a task takes.
// 8192 x 1024 in f32 take 2.6 ms on one core of a Zen 3 EPYC (AVX2; moa_ops_bench --benchmark_filter=row_statistics).
void schedule_row_statistics_cpu(RowStatistics &op, const Target &target, const Values &knobs) {
    const int rows = knobs.get("rows", 4);
    const int vector = std::min(target.natural_vector_size<float>(), RowMoments::kLanes);
    Var tile("tile"), part("part"), chunk("chunk"), task("task");
    op.stats.reorder(op.n, op.q, op.b)
        .split(op.n, tile, part, rows, TailStrategy::GuardWithIf)
        .split(tile, chunk, tile, knobs.get("task_tiles", 16), TailStrategy::GuardWithIf)
        .reorder(part, op.q, tile, chunk, op.b)
        .unroll(op.q)
        .fuse(chunk, op.b, task)
        .parallel(task);
    schedule_row_moments(op.moments, op.stats, tile, vector, rows);
}

MOA_SCHEDULE(RowStatistics, cpu, schedule_row_statistics_cpu);

}  // namespace moa
