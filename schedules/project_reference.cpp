#include "generators/project.h"

namespace moa {

// A head's row at a time, no blocking.
void schedule_project_reference(Project &op, const Halide::Target & /*target*/, const Values & /*knobs*/) {
    op.value.compute_at(op.out, op.m);
    op.sums.compute_at(op.out, op.m);
    op.product.compute_at(op.sums, op.blocks);
}

MOA_SCHEDULE(Project, reference, schedule_project_reference);

}  // namespace moa
