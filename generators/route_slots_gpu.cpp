#include "generators/route_slots_gpu.h"

namespace moa {

using namespace Halide;

RouteSlotsGpu make_route_slots_gpu(Type, const Values &) {
    RouteSlotsGpu op;
    const Expr positions = op.positions(), selected = op.indices.dim(0).extent();
    op.writes = RDom(0, positions, 0, 2, "writes");
    op.writes.where(op.writes.y == 0 || op.writes.x < selected);
    op.slots(op.n, op.r, op.b) = undef<int>();
    op.slots(select(op.writes.y == 0, op.writes.x, op.position(min(op.writes.x, selected - 1))), op.r, op.b) = select(op.writes.y == 0, -1, op.writes.x);
    op.define_routes();
    return op;
}

MOA_OPERATION(RouteSlotsGpu, "route_slots", make_route_slots_gpu);

}  // namespace moa
