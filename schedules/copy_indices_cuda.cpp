#include "generators/copy_indices.h"

namespace moa {

using namespace Halide;

void schedule_copy_indices_cuda(CopyIndices &op, const Target &, const Values &) {
    Var block("block"), thread("thread");
    op.out.gpu_tile(op.k, block, thread, 128, TailStrategy::GuardWithIf).reorder(block, op.r, op.b).gpu_blocks(op.r, op.b);
}

MOA_SCHEDULE(CopyIndices, cuda, schedule_copy_indices_cuda);

}  // namespace moa
