#include "generators/route_slots_gpu.h"

#include "generators/math.h"

namespace moa {

using namespace Halide;

RouteSlotsGpu make_route_slots_gpu(Type, const Values &) {
    RouteSlotsGpu op;
    const Var &k = op.k, &r = op.r, &b = op.b;
    const Expr positions = op.mask.dim(0).extent(), selected = op.indices.dim(0).extent();
    // Routes may come from the caller: a wrong one must not read or write out of bounds.
    const auto position = [&](const Expr &slot) { return clamp(op.indices(slot, r, b), 0, positions - 1); };
    const Expr source = b / op.source_div;

    op.scores(k, r, b) = select(op.mask(position(k), b) == 0, 0.f, op.soft != 0, op.y(position(k), r, b), 1.f);
    op.valid(k, r, b) = op.mask(position(k), source);
    op.rows(k, r, b) = source * positions + position(k);
    op.writes = RDom(0, positions, 0, 2, "writes");
    op.writes.where(op.writes.y == 0 || op.writes.x < selected);
    op.slots(op.n, r, b) = undef<int>();
    op.slots(select(op.writes.y == 0, op.writes.x, position(min(op.writes.x, selected - 1))), r, b) = select(op.writes.y == 0, -1, op.writes.x);

    allow_any_stride(op.mask, op.y);
    for (int axis = 0; axis < 3; axis++) {
        const Expr extent = op.indices.dim(axis).extent();
        for (Func f : {op.scores, op.valid, op.rows}) {
            f.output_buffer().dim(axis).set_bounds(0, extent);
        }
        op.slots.output_buffer().dim(axis).set_bounds(0, axis == 0 ? positions : extent);
    }
    return op;
}

std::vector<Argument> RouteSlotsGpu::arguments() const {
    return {indices, mask, y, soft, source_div};
}

std::vector<Func> RouteSlotsGpu::outputs() const {
    return {scores, valid, slots, rows};
}

MOA_OPERATION(RouteSlotsGpu, "route_slots", make_route_slots_gpu);

}  // namespace moa
