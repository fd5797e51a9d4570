#include "generators/combine.h"

namespace moa {

using namespace Halide;

// Knobs: vectors, how many of them advance together in registers, so that an expert's row is looked up once for all of
// them; positions, of a task.
void schedule_combine_cpu(Combine &op, const Target &target, const Values &knobs) {
    const int vector = target.natural_vector_size<float>(), tile = knobs.get("vectors", 8) * vector;
    Var chunk("chunk"), position("position"), task("task"), block("block"), within("within"), lane("lane");
    op.out.split(op.n, chunk, position, knobs.get("positions", 16), TailStrategy::GuardWithIf);
    // The last block of a row reaches back over the one before it.
    op.out.specialize(op.a.dim(0).extent() >= tile)
        .split(op.c, block, within, tile, TailStrategy::ShiftInwards)
        .split(within, within, lane, vector)
        .reorder(lane, within, block, position, chunk, op.b)
        .vectorize(lane)
        .unroll(within)
        .fuse(chunk, op.b, task)
        .parallel(task)
        .specialize(op.has_local == 0);
    op.out.split(op.c, block, within, tile, TailStrategy::GuardWithIf)
        .split(within, within, lane, vector)
        .reorder(lane, within, block, position, chunk, op.b)
        .vectorize(lane)
        .fuse(chunk, op.b, task)
        .parallel(task);
    op.count.compute_at(op.out, position).store_in(MemoryType::Stack);
    op.factor.compute_at(op.out, position).store_in(MemoryType::Stack);

    op.sum.compute_at(op.out, block)
        .store_in(MemoryType::Stack)
        .split(op.c, within, lane, tile, TailStrategy::GuardWithIf)
        .vectorize(lane, vector)
        .unroll(lane);
    op.sum.specialize(op.has_local == 0);
    op.sum.specialize(op.local.dim(0).stride() == 1);
    op.sum.update()
        .split(op.c, within, lane, tile, TailStrategy::GuardWithIf)
        .reorder(lane, within, op.experts)
        .vectorize(lane, vector)
        .unroll(lane);
}

MOA_SCHEDULE(Combine, cpu, schedule_combine_cpu);

}  // namespace moa
