#include "generators/router_scores.h"
#include "schedules/row_moments_cpu.h"

#include <utility>

namespace moa {

using namespace Halide;

namespace {

// The partial sums of a tile in registers, then one sum each. Axes with their tiles, the innermost first.
void schedule_sum(RouterScores::Sum &sum, const RouterScores &op, const Var &at, int vector, const std::vector<std::pair<Var, int>> &axes) {
    sum.parts.compute_at(op.scores, at).store_in(MemoryType::Stack).vectorize(op.l, vector).unroll(op.l);
    sum.parts.update().vectorize(op.l, vector).unroll(op.l);
    std::vector<VarOrRVar> order{op.l};
    for (const auto &[axis, tile] : axes) {
        sum.parts.bound_extent(axis, tile).unroll(axis).update().unroll(axis);
        sum.total.bound_extent(axis, tile).unroll(axis).update().unroll(axis);
        order.emplace_back(axis);
    }
    order.emplace_back(sum.blocks.x);
    sum.parts.update().reorder(order);
    sum.total.compute_at(op.scores, at).store_in(MemoryType::Stack).update().atomic().vectorize(sum.lanes.x);
    sum.total.update(1).unscheduled();
}

}  // namespace

// A tile of rows is read for the moments and, while it is in the first-level cache, for the dot products. The two share
// loops, not Funcs: bounds that depended on both would keep the sums out of registers.
// Knobs: rows x routers, the tile of dot products that advance together; task_tiles, row tiles a task.
// One core of a Zen 3 EPYC (AVX2), moa_ops_bench --benchmark_filter=router_scores: n8192_c512_r4 1.50 ms, n4096_c512_r8_b4
// 5.8 ms, where copying x takes about 1.1 and 3.9 ms. In cache, the tiles 3 x 2 (2 x 2, 2 x 3, 1 x 4) of vector pairs take
// 42 (45, 53, 53) us for 256 rows and 8 routers; in bf16 1 x 4 is the best, since it converts less.
void schedule_router_scores_cpu(RouterScores &op, const Target &target, const Values &knobs) {
    const int rows = knobs.get("rows", 4), routers = knobs.get("routers", 4);
    const int vector = std::min(target.natural_vector_size<float>(), RowMoments::kLanes);
    Var tile("tile"), part("part"), chunk("chunk"), task("task"), group("group"), member("member");
    const auto tasks = [&](Func output) {
        output.split(op.n, tile, part, rows, TailStrategy::GuardWithIf)
            .split(tile, chunk, tile, knobs.get("task_tiles", 16), TailStrategy::GuardWithIf);
    };
    tasks(op.stats);
    op.stats.reorder(part, op.q, tile, chunk, op.b).unroll(op.q).fuse(chunk, op.b, task).parallel(task);
    tasks(op.scores);
    op.scores.split(op.r, group, member, routers, TailStrategy::GuardWithIf)
        .reorder(part, member, group, tile, chunk, op.b)
        .fuse(chunk, op.b, task)
        .parallel(task);
    op.scores.compute_with(op.stats, tile);

    schedule_row_moments(op.moments, op.stats, tile, vector, rows);
    schedule_sum(op.dots, op, group, vector, {{op.r, routers}, {op.n, rows}});
    schedule_sum(op.squares, op, tile, vector, {{op.n, rows}});
    op.row_factor.compute_at(op.scores, tile).store_in(MemoryType::Stack).bound_extent(op.n, rows);
    // Once a task, as there are far fewer tokens than rows.
    op.token_factor.compute_at(op.stats, task).bound_extent(op.b, 1);
    op.token_squares.parts.compute_at(op.token_factor, op.r).store_in(MemoryType::Stack).vectorize(op.l, vector).unroll(op.l);
    op.token_squares.parts.update().reorder(op.l, op.token_squares.blocks.x).vectorize(op.l, vector).unroll(op.l);
    op.token_squares.total.compute_at(op.token_factor, op.r).store_in(MemoryType::Stack);
    op.token_squares.total.update().atomic().vectorize(op.token_squares.lanes.x);
    op.token_squares.total.update(1).unscheduled();
}

MOA_SCHEDULE(RouterScores, cpu, schedule_router_scores_cpu);

}  // namespace moa
