#include "generators/coordinate_descent.h"

namespace moa {

using namespace Halide;

namespace {

void compute_row(DescentRow &row) {
    for (Func f : {row.values, row.largest_parts, row.largest, row.valid_parts, row.valid, row.unsound_parts, row.unsound}) {
        f.compute_root();
    }
}

void compute_sum(LogSumExp &sum) {
    for (Func f : {sum.shift, sum.parts, sum.sum}) {
        f.compute_root();
    }
}

}  // namespace

void schedule_coordinate_descent_reference(CoordinateDescent &op, const Target &, const Values &) {
    compute_row(op.row);
    for (LogSumExp &sum : op.sums) {
        compute_sum(sum);
    }
    for (Func dual : op.duals) {
        dual.compute_root();
    }
    op.last_dual.compute_root();
}

void schedule_coordinate_descent_step_reference(CoordinateDescentStep &op, const Target &, const Values &) {
    compute_row(op.row);
    compute_sum(op.sum);
}

void schedule_coordinate_descent_finish_reference(CoordinateDescentFinish &op, const Target &, const Values &) {
    op.row.values.compute_root();
}

MOA_SCHEDULE(CoordinateDescent, reference, schedule_coordinate_descent_reference);
MOA_SCHEDULE(CoordinateDescentStep, reference, schedule_coordinate_descent_step_reference);
MOA_SCHEDULE(CoordinateDescentFinish, reference, schedule_coordinate_descent_finish_reference);

}  // namespace moa
