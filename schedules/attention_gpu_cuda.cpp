#include "generators/attention_gpu.h"
#include "schedules/attention_gpu_passes.h"

#include <array>

namespace moa {

using namespace Halide;

// Knobs: those of attention_gpu_passes.h.
void schedule_attention_gpu_cuda(AttentionGpu &a, const Target &, const Values &knobs) {
    const cuda::AttentionPasses passes(knobs);
    const Var &lane = passes.lane, &group = passes.group, &round = passes.round;
    Var task("task");
    cuda::begin_at_zero(a.q, a.k, a.v, a.mask, a.null_key, a.null_value, a.out.output_buffer());

    if (passes.head_dim != 0) {
        a.out.bound(a.d, 0, passes.head_dim);
    }
    // Axes are split by 1: of loops that fusing recovers with a remainder of a remainder, Halide knows the value only if they
    // are, and a block would compute all heads.
    Var head("head"), expert("expert"), batch("batch");
    a.out.split(a.y, a.t, a.y, passes.rows, TailStrategy::GuardWithIf)
        .split(a.d, round, lane, cuda::kWarp, TailStrategy::GuardWithIf)
        .split(a.y, a.y, group, passes.groups)
        .split(a.h, head, a.h, 1)
        .split(a.e, expert, a.e, 1)
        .split(a.b, batch, a.b, 1)
        .reorder(lane, group, round, a.y, a.h, a.e, a.b, a.t, head, expert, batch)
        .fuse(a.t, head, task)
        .fuse(task, expert, task)
        .fuse(task, batch, task)
        .gpu_blocks(task)
        .gpu_threads(lane, group);
    const LoopLevel at(a.out, task);
    for (const Func &f : {a.null_score, a.maximum}) {
        passes.by_rows(f, at, a.i);
    }
    passes.schedule(a, at, a.u, [](AttentionGpu::Pass &, const LoopLevel &) {});

    // What is computed again for an element of the output, by the thread that writes it.
    const LoopLevel element(a.out, lane);
    for (Func f : {a.seen, a.again_null, a.again_most, a.again_sum, a.again_mix}) {
        f.compute_at(element).update().never_partition_all();
    }
    a.quotient.compute_at(element);
    a.again_quotient.compute_at(element);
    const std::array<Func, 3> users{a.again_most, a.again_sum, a.again_mix};
    for (size_t step = 0; step < users.size(); step++) {
        a.again_products[step].compute_at(users[step], a.again_keys.x);
    }

    // A block has one tile of one head: without saying so, the host would look for the largest of all blocks' arrays.
    for (Func f : {a.null_score, a.maximum, a.queries, a.largest, a.sums, a.weight}) {
        f.bound_extent(a.t, 1).bound_extent(a.h, 1).bound_extent(a.e, 1).bound_extent(a.b, 1);
    }
    for (Func f : {a.first.keys, a.second.keys}) {
        f.bound_extent(a.h, 1).bound_extent(a.e, 1).bound_extent(a.b, 1);
    }
}

MOA_SCHEDULE(AttentionGpu, cuda, schedule_attention_gpu_cuda);

}  // namespace moa
