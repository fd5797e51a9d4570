#include "generators/route_slots.h"

namespace moa {

using namespace Halide;

RouteSlots make_route_slots(Type, const Values &) {
    RouteSlots op;
    op.taken = RDom(0, op.indices.dim(0).extent(), "taken");
    op.slots(op.n, op.r, op.b) = -1;
    op.slots(op.position(op.taken), op.r, op.b) = op.taken;
    op.define_routes();
    return op;
}

MOA_OPERATION(RouteSlots, "route_slots", make_route_slots);

}  // namespace moa
