#include "generators/select_slots.h"
#include "schedules/token_selection_reference.h"

namespace moa {

using namespace Halide;

void schedule_select_slots_reference(SelectSlots &op, const Target &, const Values &) {
    const Warps &warps = op.selection.warps;
    for (Func f : {op.indices, op.scores, op.valid, op.rows}) {
        f.compute_with(op.slots, warps.r);
    }
    op.chosen.compute_at(op.slots, warps.r);
    schedule_token_selection_reference(op.selection, LoopLevel(op.slots, warps.r));
}

MOA_SCHEDULE(SelectSlots, reference, schedule_select_slots_reference);

}  // namespace moa
