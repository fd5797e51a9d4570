#include "generators/local_attention_gpu.h"
#include "schedules/attention_gpu_passes.h"

#include <vector>

namespace moa {

using namespace Halide;

// Knobs: those of attention_gpu_passes.h.
void schedule_local_attention_gpu_cuda(LocalAttentionGpu &a, const Target &, const Values &knobs) {
    const cuda::AttentionPasses passes(knobs);
    const Var &lane = passes.lane, &group = passes.group, &round = passes.round;
    const bool plain = knobs.get("plain", 0) != 0;
    Var task("task");
    cuda::begin_at_zero(a.q, a.k, a.v, a.mask, a.q_cos, a.q_sin, a.k_cos, a.k_sin, a.q_gain, a.k_gain, a.bias, a.gate, a.out.output_buffer());

    if (passes.head_dim != 0) {
        a.out.bound(a.d, 0, passes.head_dim);
    }
    RVar row_of_out("row_of_out"), group_of_out("group_of_out");
    a.out.fuse(a.h, a.b, task).gpu_blocks(task);  // nothing, but not the host's
    Stage out = a.out.update();
    // Axes are split by 1: of loops that fusing recovers with a remainder of a remainder, Halide knows the value only if they
    // are, and a block would compute all windows.
    Var in_turn("in_turn"), head("head"), batch("batch");
    out.allow_race_conditions()
        .split(a.d, round, lane, cuda::kWarp, TailStrategy::GuardWithIf)
        .split(a.rows.x, row_of_out, group_of_out, passes.groups)
        .split(a.u, in_turn, a.u, 1)
        .split(a.h, head, a.h, 1)
        .split(a.b, batch, a.b, 1)
        .reorder(lane, group_of_out, round, row_of_out, a.u, a.h, a.b, in_turn, head, batch, a.rows.y)
        .fuse(in_turn, head, task)
        .fuse(task, batch, task)
        .gpu_blocks(task, a.rows.y)
        .gpu_threads(lane, group_of_out);
    const LoopLevel at(a.out, task);
    passes.by_rows(a.maximum, at, a.i);
    if (!plain) {
        passes.by_rows(a.query_squares, at, a.i);
    }
    // Halide lays a block's arrays end to end, and reads vectors as if each began where a vector may: so each has to end there.
    a.mean.align_storage(a.d, cuda::kVector);
    a.mean.compute_at(at).split(a.d, round, lane, cuda::kWarp, TailStrategy::GuardWithIf).gpu_threads(lane);
    a.mean.update().split(a.d, round, lane, cuda::kWarp, TailStrategy::GuardWithIf).gpu_threads(lane);
    passes.schedule(a, at, a.c, [&](LocalAttentionGpu::Pass &pass, const LoopLevel &step) {
        if (!plain) {
            pass.squares.compute_at(step).bound_extent(a.key, passes.keys).split(a.key, group, lane, cuda::kWarp, TailStrategy::GuardWithIf).gpu_threads(lane);
            pass.squares.update().split(a.key, group, lane, cuda::kWarp, TailStrategy::GuardWithIf).gpu_threads(lane);
        }
    });

    passes.rare(a, a.out);
    a.quotient.compute_at(a.out, lane);
    a.again_quotient.compute_at(a.out, lane);
    a.of_nothing.compute_at(a.out, lane);
    if (!plain) {
        a.again_squares.compute_at(a.again_mix, a.again_keys.x);
    }

    // A block has one tile of one window: without saying so, the host would look for the largest of all blocks' arrays.
    std::vector<Func> arrays = {a.maximum, a.queries, a.largest, a.sums, a.weight, a.first.keys, a.second.keys};
    if (!plain) {
        arrays.insert(arrays.end(), {a.query_squares, a.first.squares, a.second.squares});
    }
    for (Func f : arrays) {
        f.bound_extent(a.t, 1);
    }
    arrays.push_back(a.mean);
    for (Func f : arrays) {
        f.bound_extent(a.u, 1).bound_extent(a.h, 1).bound_extent(a.b, 1);
    }
}

MOA_SCHEDULE(LocalAttentionGpu, cuda, schedule_local_attention_gpu_cuda);

}  // namespace moa
