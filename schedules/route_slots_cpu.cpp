#include "generators/route_slots.h"

namespace moa {

using namespace Halide;

// All four outputs of a router row in one task.
void schedule_route_slots_cpu(RouteSlots &op, const Target &target, const Values &) {
    const int vector = target.natural_vector_size<float>();
    Var row("row");
    for (Func f : {op.scores, op.valid, op.rows}) {
        f.fuse(op.r, op.b, row).parallel(row).vectorize(op.k, vector, TailStrategy::GuardWithIf);
    }
    op.slots.fuse(op.r, op.b, row).parallel(row).vectorize(op.n, vector, TailStrategy::GuardWithIf);
    op.slots.update().fuse(op.r, op.b, row).parallel(row);
    op.valid.compute_with(op.scores, row);
    op.rows.compute_with(op.scores, row);
    op.slots.compute_with(op.scores, row);
}

MOA_SCHEDULE(RouteSlots, cpu, schedule_route_slots_cpu);

}  // namespace moa
