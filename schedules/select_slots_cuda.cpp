#include "generators/select_slots.h"
#include "schedules/cuda.h"
#include "schedules/token_selection_cuda.h"

namespace moa {

using namespace Halide;

// All outputs in the one kernel that finds the positions. Shared memory as for select_tokens; what is chosen would be too much for
// it when most positions are.
void schedule_select_slots_cuda(SelectSlots &op, const Target &, const Values &) {
    const Warps &warps = op.selection.warps;
    RVar round("round"), warp("warp");
    cuda::begin_at_zero(op.selection.scores, op.selection.mask);
    // Not of fused axes: outputs that are computed together would seem to want several rows of what is computed at a block.
    const auto by_rows = [&](Func f, const Var &var) {
        cuda::by_threads(f, var);
        f.reorder(warps.b, warps.r).gpu_blocks(warps.b, warps.r);
    };
    by_rows(op.slots, op.n);
    for (Func f : {op.indices, op.scores, op.valid, op.rows}) {
        by_rows(f, op.j);
        f.compute_with(op.slots, warps.b);
    }
    const LoopLevel at(op.slots, warps.b);
    op.chosen.compute_at(at).store_in(MemoryType::Heap).bound_extent(warps.r, 1).bound_extent(warps.b, 1).update().allow_race_conditions().split(op.positions.y, round, warp, Warps::kWarps, TailStrategy::GuardWithIf).reorder(op.positions.x, warp, round).gpu_threads(op.positions.x, warp);
    cuda::schedule_token_selection(op.selection, at);
}

MOA_SCHEDULE(SelectSlots, cuda, schedule_select_slots_cuda);

}  // namespace moa
