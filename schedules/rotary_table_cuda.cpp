#include "generators/rotary_table.h"
#include "schedules/cuda.h"

namespace moa {

using namespace Halide;

// Positions, of which there may be more than a grid's second axis takes, and channels make one axis of blocks.
void schedule_rotary_table_cuda(RotaryTable &op, const Target &, const Values &) {
    constexpr int kPositions = 8;
    Var block_d("block_d"), block_n("block_n"), block("block"), thread_d("thread_d"), thread_n("thread_n");
    op.table.tile(op.d, op.n, block_d, block_n, thread_d, thread_n, cuda::kWarp, kPositions, TailStrategy::GuardWithIf)
        .fuse(block_d, block_n, block)
        .gpu_blocks(block)
        .gpu_threads(thread_d, thread_n);
}

MOA_SCHEDULE(RotaryTable, cuda, schedule_rotary_table_cuda);

}  // namespace moa
