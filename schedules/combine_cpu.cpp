#include "generators/combine.h"

namespace moa {

using namespace Halide;

// Knobs: vectors, how many of them advance together in registers, so that an expert's row is looked up once for all of
// them; positions, of a task. The last block of a row reaches back over the one before it; rows narrower than `vectors`
// vectors take blocks of one.
// One core of a Zen 3 EPYC (AVX2), f32, moa_ops_bench --benchmark_filter=combine: n4096_m1024_c512_e4_local 1.20 ms,
// n8192_m4096_c512_e2 2.69 ms; memcpy of as many bytes is up to 1.7 times faster, since it need not read what it overwrites.
void schedule_combine_cpu(Combine &op, const Target &target, const Values &knobs) {
    const int vector = target.natural_vector_size<float>(), wide = knobs.get("vectors", 8) * vector;
    Var chunk("chunk"), position("position"), task("task"), block("block"), within("within"), lane("lane");
    const auto blocks = [&](Stage out, int width, TailStrategy tail) {
        out.split(op.c, block, within, width, tail)
            .split(within, within, lane, vector)
            .reorder(lane, within, block, position, chunk, op.b)
            .vectorize(lane)
            .unroll(within)
            .fuse(chunk, op.b, task)
            .parallel(task);
    };
    op.out.split(op.n, chunk, position, knobs.get("positions", 32), TailStrategy::GuardWithIf);
    for (const int width : {wide, vector}) {
        Stage out = op.out.specialize(op.a.dim(0).extent() >= width);
        blocks(out, width, TailStrategy::ShiftInwards);
        out.specialize(op.has_local == 0);
    }
    blocks(op.out, vector, TailStrategy::GuardWithIf);
    op.count.compute_at(op.out, position).store_in(MemoryType::Stack).update().unscheduled();
    op.factor.compute_at(op.out, position).store_in(MemoryType::Stack);

    op.sum.compute_at(op.out, block).store_in(MemoryType::Stack);
    for (Stage sum : {Stage(op.sum), op.sum.update()}) {
        sum.split(op.c, within, lane, wide, TailStrategy::GuardWithIf);
    }
    op.sum.vectorize(lane, vector).unroll(lane);
    op.sum.update().reorder(lane, within, op.experts).vectorize(lane, vector).unroll(lane);
    op.sum.specialize(op.has_local == 0);
    op.sum.specialize(op.local.dim(0).stride() == 1);
}

MOA_SCHEDULE(Combine, cpu, schedule_combine_cpu);

}  // namespace moa
