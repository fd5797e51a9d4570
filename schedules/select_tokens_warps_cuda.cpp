#include "generators/select_tokens_warps.h"
#include "schedules/cuda.h"
#include "schedules/token_selection_cuda.h"

namespace moa {

using namespace Halide;

// A block has a row: its keys in shared memory, 4 bytes a position, and some 30 KB besides. The knob warps names the row.
void schedule_select_tokens_warps_cuda(SelectTokensWarps &op, const Target &, const Values &) {
    const Warps &warps = op.selection.warps;
    Var block("block");
    RVar round("round"), warp("warp");
    cuda::begin_at_zero(op.selection.scores, op.selection.mask, op.indices.output_buffer());
    op.indices.fuse(warps.r, warps.b, block).gpu_blocks(block);  // nothing, but not the host's
    op.indices.update()
        .allow_race_conditions()
        .split(op.positions.y, round, warp, Warps::kWarps, TailStrategy::GuardWithIf)
        .fuse(warps.r, warps.b, block)
        .reorder(op.positions.x, warp, round, block)
        .gpu_blocks(block)
        .gpu_threads(op.positions.x, warp);
    cuda::schedule_token_selection(op.selection, LoopLevel(op.indices, block));
}

MOA_SCHEDULE(SelectTokensWarps, cuda, schedule_select_tokens_warps_cuda);

}  // namespace moa
