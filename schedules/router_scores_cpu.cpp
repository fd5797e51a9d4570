#include "generators/router_scores.h"
#include "schedules/row_moments_cpu.h"

namespace moa {

using namespace Halide;

namespace {

// The partial sums of a tile in registers, then one sum each.
void schedule_sums(Func parts, Func sums, const RouterScores &op, const Var &at, int vector, int rows) {
    parts.compute_at(op.scores, at).store_in(MemoryType::Stack).bound_extent(op.n, rows).vectorize(op.l, vector).unroll(op.l).unroll(op.n);
    parts.update().vectorize(op.l, vector).unroll(op.l).unroll(op.n);
    sums.compute_at(op.scores, at).store_in(MemoryType::Stack).bound_extent(op.n, rows).unroll(op.n);
    sums.update(0).unroll(op.n).atomic();
    sums.update(1).unscheduled();
}

}  // namespace

// A task reads its rows of x twice, for the moments and for the dot products: the second time from a near cache. The loops
// are fused no deeper, since then the tiles of either would have bounds that depend on the other's and leave registers.
// Knobs: rows x routers, the tile of dot products that advance together; task_tiles, row tiles a task.
void schedule_router_scores_cpu(RouterScores &op, const Target &target, const Values &knobs) {
    const int rows = knobs.get("rows", 4), routers = knobs.get("routers", 4);
    const int vector = std::min(target.natural_vector_size<float>(), RowMoments::kLanes);
    const RowMoments &m = op.moments;
    Var tile("tile"), part("part"), chunk("chunk"), task("task"), group("group"), member("member");
    const auto tasks = [&](Func output) {
        output.split(op.n, tile, part, rows, TailStrategy::GuardWithIf)
            .split(tile, chunk, tile, knobs.get("task_tiles", 4), TailStrategy::GuardWithIf);
    };
    tasks(op.stats);
    op.stats.reorder(part, op.q, tile, chunk, op.b).unroll(op.q).fuse(chunk, op.b, task).parallel(task);
    tasks(op.scores);
    op.scores.split(op.r, group, member, routers, TailStrategy::GuardWithIf)
        .reorder(part, member, group, tile, chunk, op.b)
        .fuse(chunk, op.b, task)
        .parallel(task);
    if (knobs.get("ahead", 0) > 0) {
        op.scores.prefetch(op.x, tile, tile, knobs("ahead"), PrefetchBoundStrategy::NonFaulting);
    }
    op.stats.compute_with(op.scores, task);

    schedule_row_moments(op.moments, op.stats, tile, vector, rows);
    schedule_sums(op.square_parts, op.squares, op, tile, vector, rows);
    op.square_parts.update().reorder(op.l, op.n, op.blocks);
    op.squares.update(0).vectorize(op.lanes, RowMoments::kLanes);
    op.token_squares.compute_at(op.scores, group).store_in(MemoryType::Stack).update().unscheduled();
    schedule_sums(op.dot_parts, op.dots, op, group, vector, rows);
    op.dot_parts.bound_extent(op.r, routers).unroll(op.r).update().unroll(op.r).reorder(op.l, op.r, op.n, m.blocks);
    op.dots.bound_extent(op.r, routers).unroll(op.r).update(0).unroll(op.r).vectorize(m.lanes, RowMoments::kLanes);
}

MOA_SCHEDULE(RouterScores, cpu, schedule_router_scores_cpu);

}  // namespace moa
