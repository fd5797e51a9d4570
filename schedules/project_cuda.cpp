#include "generators/project.h"
#include "schedules/cuda.h"

#include <algorithm>

namespace moa {

using namespace Halide;

// Knobs: rows x columns, a block's part of the output; `block` input channels at a time are copied to shared memory, where the
// sums are kept between these. 32 x 4 threads; each multiplies rows / 8 rows by a panel in registers. Of a warp 8 threads
// differ in rows and 4 in panels, so that it reads few words at a time.
// Weights must begin on 16 bytes, and heads that are rotated must not be wider than columns.
void schedule_project_cuda(Project &op, const Target &, const Values &knobs) {
    constexpr int kRowThreads = 8, kPanelThreads = cuda::kWarp / kRowThreads, kGroups = 4, kUnrolled = 4;
    const int panel = knobs("panel"), rows = knobs("rows"), columns = knobs("columns");
    const bool plain = knobs.get("plain", 0) != 0;
    Var block_m("block_m"), mi("mi"), block_h("block_h"), hi("hi"), block_d("block_d"), di("di"), task("task"), lane("lane"), group("group"), round("round");
    Var row("row"), row_thread("row_thread"), panels("panels"), panel_thread("panel_thread"), thread("thread");
    cuda::begin_at_zero(op.x, op.rows, op.weights, op.stats, op.colsum, op.bias, op.cosines, op.sines, op.positions, op.scale, op.out.output_buffer());
    op.weights.dim(0).set_extent(panel);
    op.weights.dim(1).set_stride(panel);
    op.weights.dim(2).set_stride(op.weights.dim(1).extent() * panel);
    op.weights.dim(3).set_stride(op.weights.dim(2).extent() * op.weights.dim(1).extent() * panel);
    op.weights.set_host_alignment(16);

    const Expr width = op.cosines.dim(0).extent();
    op.out.split(op.m, block_m, mi, rows, TailStrategy::GuardWithIf)
        .split(op.h, block_h, hi, max(columns / width, 1), TailStrategy::GuardWithIf)
        .split(op.d, block_d, di, min(width, columns), TailStrategy::GuardWithIf)
        .split(di, round, lane, cuda::kWarp, TailStrategy::GuardWithIf)
        .split(mi, mi, group, kGroups)
        .reorder(lane, group, round, hi, mi, block_d, block_h, block_m, op.e, op.b)
        .fuse(block_d, block_h, task)
        .fuse(task, block_m, task)
        .fuse(task, op.e, task)
        .fuse(task, op.b, task)
        .gpu_blocks(task)
        .gpu_threads(lane, group);
    for (Func f : {op.row_factor, op.row_shift, op.source}) {
        f.compute_at(op.out, task).bound_extent(op.m, rows).split(op.m, group, lane, cuda::kWarp, TailStrategy::GuardWithIf).gpu_threads(lane);
    }
    const auto by_tiles = [&](Stage stage) {
        stage.split(op.m, row_thread, row, rows / kRowThreads)
            .split(op.p, panels, panel_thread, kPanelThreads, TailStrategy::GuardWithIf)
            .split(panels, round, panels, kGroups, TailStrategy::GuardWithIf)
            .fuse(row_thread, panel_thread, thread)
            .vectorize(op.i, cuda::kVector)
            .unroll(op.i)
            .unroll(row)
            .gpu_threads(thread, panels);
    };
    op.sums.compute_at(op.out, task).bound_extent(op.i, panel).bound_extent(op.m, rows).bound_storage(op.p, columns / panel + (plain ? 0 : 2));
    by_tiles(op.sums);
    op.sums.reorder(op.i, row, thread, panels, round);
    by_tiles(op.sums.update());
    op.sums.update().reorder(op.i, row, thread, panels, round, op.blocks);
    // Transposed, since a thread reads neighbouring rows of one channel; with a pitch that spreads the channels that a warp
    // writes over the banks.
    op.packed.compute_at(op.sums, op.blocks)
        .bound_extent(op.c, op.block)
        .bound_extent(op.m, rows)
        .reorder_storage(op.m, op.c, op.k, op.e, op.b)
        .align_storage(op.m, rows + cuda::kVector)
        .split(op.c, round, lane, cuda::kWarp)
        .split(op.m, row, group, kGroups)
        .reorder(row, lane, group, round)
        .unroll(row)
        .gpu_threads(lane, group);
    op.product.compute_at(op.sums, thread).bound_extent(op.i, panel).bound_extent(op.m, rows / kRowThreads).vectorize(op.i, cuda::kVector).unroll(op.i).unroll(op.m);
    op.product.update().reorder(op.i, op.m, op.block_channels).vectorize(op.i, cuda::kVector).unroll(op.i).unroll(op.m).unroll(op.block_channels, kUnrolled);
    op.packed.in(op.product).compute_at(op.product, op.block_channels).bound_extent(op.m, rows / kRowThreads).bound_extent(op.c, kUnrolled).unroll(op.c).vectorize(op.m, cuda::kVector).unroll(op.m);
}

MOA_SCHEDULE(Project, cuda, schedule_project_cuda);

}  // namespace moa
