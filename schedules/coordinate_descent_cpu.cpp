#include "generators/coordinate_descent.h"

namespace moa {

using namespace Halide;

namespace {

struct RowLoop {
    Func consumer;
    Var row{"row"};
    int vector;
};

RowLoop row_loop(Func consumer, const DescentRow &op, const Target &target) {
    RowLoop loop;
    loop.consumer = consumer;
    loop.vector = target.natural_vector_size<float>();
    consumer.fuse(op.r, op.b, loop.row).parallel(loop.row);
    return loop;
}

void schedule_values(DescentRow &op, const RowLoop &loop) {
    op.values.compute_at(loop.consumer, loop.row).vectorize(op.n, loop.vector, TailStrategy::RoundUp);
    op.values.specialize(op.mask.dim(0).stride() == 1);
    op.values.specialize(op.mask.dim(0).stride() == 0);
}

void schedule_reduction(Func parts, Func total, const DescentRow &op, const RowLoop &loop) {
    parts.compute_at(loop.consumer, loop.row).store_in(MemoryType::Stack).vectorize(op.l, loop.vector).unroll(op.l);
    parts.update().reorder(op.l, op.blocks).vectorize(op.l, loop.vector).unroll(op.l);
    total.compute_at(loop.consumer, loop.row).store_in(MemoryType::Stack);
    total.update().atomic().vectorize(op.lanes, loop.vector);
}

void schedule_sum(const LogSumExp &sum, const DescentRow &op, const RowLoop &loop) {
    Func(sum.shift).compute_at(loop.consumer, loop.row).store_in(MemoryType::Stack);
    schedule_reduction(sum.parts, sum.sum, op, loop);
}

}  // namespace

// 8 rows of 4096 (32768) scores on one core of a Zen 3 EPYC (AVX2), moa_ops_bench --benchmark_filter=coordinate_descent/: 182 us
// (1.39 ms) with lanes of one vector; two and four vectors take 8 and 26 % more, since the constants of the exponential leave
// registers. Two cores halve it.
void schedule_coordinate_descent_cpu(CoordinateDescent &op, const Target &target, const Values &) {
    const RowLoop loop = row_loop(op.y, op.row, target);
    op.y.vectorize(op.row.n, loop.vector, TailStrategy::GuardWithIf);
    schedule_values(op.row, loop);
    schedule_reduction(op.row.largest_parts, op.row.largest, op.row, loop);
    schedule_reduction(op.row.valid_parts, op.row.valid, op.row, loop);
    schedule_reduction(op.row.unsound_parts, op.row.unsound, op.row, loop);
    op.last_dual.compute_at(loop.consumer, loop.row).store_in(MemoryType::Stack);
    for (const LogSumExp &sum : op.sums) {
        schedule_sum(sum, op.row, loop);
    }
    for (Func dual : op.duals) {
        dual.compute_at(loop.consumer, loop.row).store_in(MemoryType::Stack);
    }
}

// A step reads the scores four times and y once: masking them anew is cheaper than a row of scratch.
void schedule_coordinate_descent_step_cpu(CoordinateDescentStep &op, const Target &target, const Values &) {
    const RowLoop loop = row_loop(op.a, op.row, target);
    schedule_reduction(op.row.largest_parts, op.row.largest, op.row, loop);
    schedule_reduction(op.row.valid_parts, op.row.valid, op.row, loop);
    schedule_reduction(op.row.unsound_parts, op.row.unsound, op.row, loop);
    schedule_sum(op.sum, op.row, loop);
    for (Func parts : {op.row.largest_parts, op.row.valid_parts, op.row.unsound_parts, op.sum.parts}) {
        parts.update().specialize(op.row.mask.dim(0).stride() == 1);
        parts.update().specialize(op.row.mask.dim(0).stride() == 0);
    }
}

void schedule_coordinate_descent_finish_cpu(CoordinateDescentFinish &op, const Target &target, const Values &) {
    const RowLoop loop = row_loop(op.y, op.row, target);
    op.y.vectorize(op.row.n, loop.vector, TailStrategy::GuardWithIf);
    op.y.specialize(op.row.mask.dim(0).stride() == 1);
    op.y.specialize(op.row.mask.dim(0).stride() == 0);
}

MOA_SCHEDULE(CoordinateDescent, cpu, schedule_coordinate_descent_cpu);
MOA_SCHEDULE(CoordinateDescentStep, cpu, schedule_coordinate_descent_step_cpu);
MOA_SCHEDULE(CoordinateDescentFinish, cpu, schedule_coordinate_descent_finish_cpu);

}  // namespace moa
