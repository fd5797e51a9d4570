#include "generators/combine.h"
#include "schedules/cuda.h"

namespace moa {

using namespace Halide;

// A warp writes a row, a vector a lane at a time where all tensors allow it, else an element. What it must know of its
// position, every lane finds out for itself: the warp reads the same words, so that costs one access.
void schedule_combine_cuda(Combine &op, const Target &, const Values &knobs) {
    Var chunk("chunk"), position("position"), block("block"), step("step"), lane("lane"), element("element");
    const auto rows_of_warps = [&](Stage out, int vector, TailStrategy tail) {
        out.split(op.c, step, element, vector, tail)
            .split(step, step, lane, cuda::kWarp, TailStrategy::GuardWithIf)
            .split(op.n, chunk, position, knobs.get("positions", 8), TailStrategy::GuardWithIf)
            .fuse(chunk, op.b, block)
            .reorder(element, step, lane, position, block)
            .vectorize(element)
            .gpu_blocks(block)
            .gpu_threads(lane, position);
    };
    cuda::begin_at_zero(op.a, op.slots, op.valid, op.local, op.null_token, op.mask, op.out.output_buffer());
    const int wide = 16 / op.a.type().bytes();  // so that what is looked up serves as many bytes of bf16 as of f32
    const Expr channels = op.a.dim(0).extent();
    const Expr aligned = channels % wide == 0 && cuda::rows_begin_aligned(op.a.parameter()) && cuda::rows_begin_aligned(op.null_token.parameter()) &&
                         cuda::rows_begin_aligned(op.out.output_buffer().parameter());
    const Expr aligned_local = op.local.dim(0).stride() == 1 && cuda::rows_begin_aligned(op.local.parameter());
    rows_of_warps(op.out.specialize(aligned && op.has_local == 0), wide, TailStrategy::ShiftInwards);
    rows_of_warps(op.out.specialize(aligned && aligned_local), wide, TailStrategy::ShiftInwards);
    rows_of_warps(op.out, 1, TailStrategy::GuardWithIf);

    op.count.compute_at(op.out, lane).update().unscheduled();
    op.factor.compute_at(op.out, lane);
    op.sum.compute_at(op.out, step).vectorize(op.c).update().reorder(op.c, op.experts).vectorize(op.c);
}

MOA_SCHEDULE(Combine, cuda, schedule_combine_cuda);

}  // namespace moa
