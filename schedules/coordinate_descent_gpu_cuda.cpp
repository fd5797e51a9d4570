#include "generators/coordinate_descent_gpu.h"
#include "schedules/cuda.h"

namespace moa {

using namespace Halide;

namespace {

constexpr int kThreads = DescentRowGpu::kThreads;

// A thread's sums are in registers, and shown in shared memory once: there is one barrier for each level. Sums of the one thread
// that ends it all are made where it wants them.
void schedule_block_sum(BlockSum sum, const DescentRowGpu &row, const LoopLevel &block) {
    sum.parts.compute_at(block).bound_extent(row.l, kThreads).gpu_threads(row.l);
    sum.own.compute_at(sum.parts, row.l);
    sum.own.update().reorder(row.steps.x, row.steps.y, row.l).unroll(row.steps.x);
    sum.groups.compute_at(block).bound_extent(row.g, DescentRowGpu::kGroup).gpu_threads(row.g);
    sum.of_group.compute_at(sum.groups, row.g);
    sum.of_group.update().unroll(sum.members);
}

void schedule_total(BlockSum sum, const LoopLevel &thread) {
    sum.total.compute_at(thread);
    sum.total.update().unroll(sum.all);
}

}  // namespace

// A block has a row. Masked scores are kept in device memory, where they stay in the first cache up to some 50 thousand of them.
void schedule_coordinate_descent_gpu_cuda(CoordinateDescentGpu &op, const Target &, const Values &) {
    DescentRowGpu &row = op.row;
    Var block("block"), chunk("chunk"), thread("thread");
    cuda::begin_at_zero(row.scores, row.mask, op.eps, op.y.output_buffer());
    op.y.split(row.n, chunk, thread, kThreads, TailStrategy::GuardWithIf).fuse(row.r, row.b, block).gpu_blocks(block).gpu_threads(thread);
    const LoopLevel at(op.y, block);
    row.values.compute_at(at).store_in(MemoryType::Heap).split(row.n, chunk, thread, kThreads).gpu_threads(thread);
    schedule_block_sum(row.largest, row, at);
    schedule_block_sum(row.valid, row, at);
    row.largest.total.compute_at(at);
    for (size_t t = 0; t < op.duals.size(); t++) {
        op.duals[t].compute_at(at).bound_extent(op.z, 1).gpu_threads(op.z);
        schedule_total(t == 0 ? row.valid : op.sums[t - 1], LoopLevel(op.duals[t], op.z));
        if (t > 0) {
            schedule_block_sum(op.sums[t - 1], row, at);
        }
    }
}

// Masking the scores anew for each of the three sums is cheaper than keeping them.
void schedule_coordinate_descent_step_gpu_cuda(CoordinateDescentStepGpu &op, const Target &, const Values &) {
    DescentRowGpu &row = op.row;
    Var block("block");
    cuda::begin_at_zero(row.scores, row.mask, op.a_in, op.a.output_buffer());
    op.a.fuse(row.r, row.b, block).gpu_blocks(block);
    const LoopLevel at(op.a, block);
    for (Func f : {op.before, op.after}) {
        f.compute_at(at).bound_extent(op.z, 1).gpu_threads(op.z);
    }
    for (const BlockSum &sum : {row.largest, row.valid, op.sum}) {
        schedule_block_sum(sum, row, at);
    }
    row.largest.total.compute_at(at);
    schedule_total(row.valid, LoopLevel(op.after, op.z));
    schedule_total(op.sum, LoopLevel(op.after, op.z));
}

void schedule_coordinate_descent_finish_gpu_cuda(CoordinateDescentFinishGpu &op, const Target &, const Values &) {
    constexpr int kPositions = 256;
    DescentRowGpu &row = op.row;
    Var block("block"), thread("thread");
    cuda::begin_at_zero(row.scores, row.mask, op.a, op.y.output_buffer());
    op.y.split(row.n, block, thread, kPositions, TailStrategy::GuardWithIf).fuse(block, row.r, block).fuse(block, row.b, block).gpu_blocks(block).gpu_threads(thread);
}

MOA_SCHEDULE(CoordinateDescentGpu, cuda, schedule_coordinate_descent_gpu_cuda);
MOA_SCHEDULE(CoordinateDescentStepGpu, cuda, schedule_coordinate_descent_step_gpu_cuda);
MOA_SCHEDULE(CoordinateDescentFinishGpu, cuda, schedule_coordinate_descent_finish_gpu_cuda);

}  // namespace moa
