#include "generators/route_slots_gpu.h"
#include "schedules/cuda.h"

namespace moa {

using namespace Halide;

// A block has a row, since only threads of one block can wait until all slots are cleared. Positions of a row differ, so
// that no two threads write one slot.
void schedule_route_slots_gpu_cuda(RouteSlotsGpu &op, const Target &, const Values &) {
    constexpr int kThreads = 1024;
    Var block("block"), chunk("chunk"), thread("thread");
    RVar step = op.writes.y, part("part"), lane("lane");
    cuda::begin_at_zero(op.indices, op.mask, op.y);
    // Nothing is computed there, but it must not seem to be the host's.
    op.slots.fuse(op.r, op.b, block).gpu_blocks(block);
    op.slots.update()
        .allow_race_conditions()
        .split(op.writes.x, part, lane, kThreads, TailStrategy::GuardWithIf)
        .fuse(op.r, op.b, block)
        .reorder(lane, part, step, block)
        .unroll(step)
        .gpu_blocks(block)
        .gpu_threads(lane);
    for (Func f : {op.scores, op.valid, op.rows}) {
        f.split(op.k, chunk, thread, kThreads, TailStrategy::GuardWithIf)
            .fuse(op.r, op.b, block)
            .reorder(thread, chunk, block)
            .gpu_blocks(block)
            .gpu_threads(thread)
            .compute_with(op.slots.update(), block);
    }
}

MOA_SCHEDULE(RouteSlotsGpu, cuda, schedule_route_slots_gpu_cuda);

}  // namespace moa
