#include "generators/route_slots.h"

namespace moa {

using namespace Halide;

RouteSlots make_route_slots(Type, const Values &) {
    RouteSlots op;
    const Var &k = op.k, &r = op.r, &b = op.b;
    const Expr positions = op.mask.dim(0).extent();
    // Routes may come from the caller: a wrong one must not read or write out of bounds.
    const auto position = [&](const Expr &slot) { return clamp(op.indices(slot, r, b), 0, positions - 1); };
    const Expr source = b / op.source_div;

    op.scores(k, r, b) = select(op.mask(position(k), b) == 0, 0.f, op.soft != 0, op.y(position(k), r, b), 1.f);
    op.valid(k, r, b) = op.mask(position(k), source);
    op.taken = RDom(0, op.indices.dim(0).extent(), "taken");
    op.slots(op.n, r, b) = -1;
    op.slots(position(op.taken), r, b) = op.taken;
    op.rows(k, r, b) = source * positions + position(k);

    op.mask.dim(0).set_stride(Expr());
    op.y.dim(0).set_stride(Expr());
    for (int axis = 0; axis < 3; axis++) {
        const Expr extent = op.indices.dim(axis).extent();
        for (Func f : {op.scores, op.valid, op.rows}) {
            f.output_buffer().dim(axis).set_bounds(0, extent);
        }
        op.slots.output_buffer().dim(axis).set_bounds(0, axis == 0 ? positions : extent);
    }
    return op;
}

std::vector<Argument> RouteSlots::arguments() const {
    return {indices, mask, y, soft, source_div};
}

std::vector<Func> RouteSlots::outputs() const {
    return {scores, valid, slots, rows};
}

MOA_OPERATION(RouteSlots, "route_slots", make_route_slots);

}  // namespace moa
