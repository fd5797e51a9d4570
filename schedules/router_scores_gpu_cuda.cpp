#include "generators/router_scores_gpu.h"
#include "schedules/row_sums_cuda.h"

namespace moa {

using namespace Halide;

// Knobs: routers, of a tile; warps of a block and rows that each takes. One kernel sums up, and keeps (routers + 3) numbers a
// position and tile in device memory; a second one makes both outputs from them. (Halide loses the bounds of a block's rows
// where two outputs share a loop over them, so that the first cannot write both.)
void schedule_router_scores_gpu_cuda(RouterScoresGpu &op, const Target &, const Values &knobs) {
    constexpr int kThreads = 256;
    const int routers = knobs("routers"), warps = knobs.get("warps", 4), rows = knobs.get("rows", 4), positions = warps * rows, sums = routers + RowSums::kStatistics;
    RowSums &s = op.sums;
    Var chunk("chunk"), position("position"), block("block"), rest("rest"), thread("thread");
    cuda::begin_at_zero(op.x, op.tokens, op.scores.output_buffer(), op.stats.output_buffer());
    const Expr aligned = op.x.dim(0).extent() % cuda::kVector == 0 && cuda::rows_begin_aligned(op.x.parameter()) && cuda::rows_begin_aligned(op.tokens.parameter());
    for (Func f : {op.scores, op.stats}) {
        f.bound(op.n, 0, op.x.dim(1).extent()).bound(op.b, 0, op.x.dim(2).extent());
        f.split(op.n, chunk, position, kThreads, TailStrategy::GuardWithIf).fuse(chunk, op.b, block);
    }
    op.scores.reorder(op.r, position, block).gpu_blocks(block).gpu_threads(position);
    op.stats.bound(op.q, 0, RowSums::kStatistics).reorder(op.q, position, block).unroll(op.q).gpu_blocks(block).gpu_threads(position);
    op.stats.compute_with(op.scores, position);

    s.result.compute_root()
        .bound_extent(s.a, sums)
        .reorder_storage(s.n, s.a, s.g, s.b)
        .split(s.n, chunk, position, positions, TailStrategy::RoundUp)
        .split(s.a, rest, thread, warps, TailStrategy::GuardWithIf)
        .fuse(s.g, chunk, block)
        .fuse(block, s.b, block)
        .reorder(position, thread, rest, block)
        .gpu_blocks(block)
        .gpu_threads(position, thread);
    cuda::schedule_row_sums(s, LoopLevel(s.result, block), aligned, warps, rows);
    Var low("low");
    for (Stage total : {Stage(s.total), s.total.update()}) {
        total.split(s.a, rest, thread, 2 * warps, TailStrategy::GuardWithIf).split(thread, thread, low, 2).fuse(s.n, low, position).reorder(position, thread, rest).gpu_threads(position, thread);
    }
    s.total.compute_at(s.result, block).bound_extent(s.a, sums).bound_extent(s.g, 1).bound_extent(s.n, positions).bound_extent(s.b, 1);
    s.total.update().reorder(s.lanes, position, thread, rest).unroll(s.lanes, 8);
    s.distances.compute_at(s.result, block).bound_extent(s.n, positions).gpu_threads(s.n).update().unroll(s.mean_lanes, 8).gpu_threads(s.n);

    // Of cosines only: a warp a token.
    op.token_factor.compute_root().fuse(op.r, op.b, block).gpu_blocks(block);
    op.token_parts.compute_at(op.token_factor, block).gpu_threads(op.l).update().gpu_threads(op.l);
    op.token_squares.compute_at(op.token_factor, block);
}

MOA_SCHEDULE(RouterScoresGpu, cuda, schedule_router_scores_gpu_cuda);

}  // namespace moa
