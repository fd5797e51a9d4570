#include "generators/select_tokens_warps.h"
#include "schedules/token_selection_reference.h"

namespace moa {

using namespace Halide;

void schedule_select_tokens_warps_reference(SelectTokensWarps &op, const Target &, const Values &) {
    op.indices.update().reorder(op.positions.x, op.positions.y, op.selection.warps.r, op.selection.warps.b);
    schedule_token_selection_reference(op.selection, LoopLevel(op.indices, op.selection.warps.r));
}

MOA_SCHEDULE(SelectTokensWarps, reference, schedule_select_tokens_warps_reference);

}  // namespace moa
