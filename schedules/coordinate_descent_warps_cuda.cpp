#include "generators/coordinate_descent_warps.h"
#include "schedules/cuda.h"
#include "schedules/warps_cuda.h"

namespace moa {

using namespace Halide;

// A block has a row, in shared memory: 4 bytes a position, which all iterations read. The knob warps names the row.
void schedule_coordinate_descent_warps_cuda(CoordinateDescentWarps &op, const Target &, const Values &) {
    Var block("block");
    const Var &w = op.warps.w;
    const RVar lane = op.lanes.x;
    cuda::begin_at_zero(op.scores, op.mask, op.eps, op.y.output_buffer());
    op.y.fuse(op.warps.r, op.warps.b, block).gpu_blocks(block);
    cuda::by_threads(op.y, op.n);
    const LoopLevel at(op.y, block);
    op.values.compute_at(at).store_in(MemoryType::GPUShared);
    cuda::by_threads(op.values, op.n, CoordinateDescentWarps::kUnrolled);

    const auto outcome_at = [&](const CoordinateDescentWarps::Outcome &outcome, const LoopLevel &thread) {
        cuda::in_registers({outcome.read, outcome.start}, thread);
        cuda::in_registers(outcome.fold, thread);
    };
    for (size_t i = 0; i < op.passes.size(); i++) {
        CoordinateDescentWarps::Pass &pass = op.passes[i];
        pass.state.compute_at(at).store_in(MemoryType::GPUShared).bound(w, 0, Warps::kWarps);
        pass.state.update().allow_race_conditions().reorder(lane, w).gpu_threads(lane, w);
        const LoopLevel thread(pass.state, lane);
        pass.own.compute_at(thread);
        pass.own.update().reorder(op.steps.x, op.steps.y).unroll(op.steps.x);
        cuda::in_registers(pass.fold, thread);
        if (i > 0) {
            outcome_at(op.outcomes[i - 1], thread);
        }
    }
    op.last.compute_at(at).store_in(MemoryType::GPUShared).update().allow_race_conditions().gpu_threads(lane);
    outcome_at(op.outcomes.back(), LoopLevel(op.last, lane));
}

MOA_SCHEDULE(CoordinateDescentWarps, cuda, schedule_coordinate_descent_warps_cuda);

}  // namespace moa
