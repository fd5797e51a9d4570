#include "generators/combine.h"

#include "generators/math.h"

namespace moa {

using namespace Halide;

namespace {

// The row of `expert` that position n gathers, and whether there is one: of no other one may anything be read.
struct Gathered {
    Expr row, exists;
};

Gathered gathered(const Combine &op, const RDom &expert) {
    const Expr rows = op.a.dim(1).extent();
    const Expr slot = select(op.routed != 0, op.slots(op.n, expert, op.b), op.n);
    return {unsafe_promise_clamped(slot, 0, rows - 1), cast<uint32_t>(slot) < cast<uint32_t>(rows)};
}

void constrain_shapes(Combine &op) {
    const Expr channels = op.a.dim(0).extent();
    op.null_token.dim(0).set_bounds(0, channels);
    // Absent arguments are single elements with strides of 0.
    for (ImageParam *optional : {&op.slots, &op.valid, &op.local, &op.mask}) {
        optional->dim(0).set_stride(Expr());
    }
    op.out.output_buffer().dim(0).set_bounds(0, channels);
}

}  // namespace

Combine make_combine(Type storage, const Values &) {
    Combine op;
    op.a = ImageParam(storage, 4, "a");
    op.local = ImageParam(storage, 3, "local");
    const Expr with_local = op.has_local != 0;
    const Expr kept = op.mask(op.n, op.b) != 0;

    op.counted = RDom(0, op.a.dim(2).extent(), "counted");
    const Gathered candidate = gathered(op, op.counted);
    op.counted.where(candidate.exists);
    op.count(op.n, op.b) = select(with_local, 1, 0);
    op.count(op.n, op.b) += select(op.routed == 0 || op.valid(candidate.row, op.counted, op.b) != 0, 1, 0);
    op.factor(op.n, op.b) = 1.f / select(op.divide == 1, max(cast<float>(op.count(op.n, op.b)), 1e-5f), op.divide == 2, op.divisor, 1.f);

    op.experts = RDom(0, op.a.dim(2).extent(), "experts");
    const Gathered taken = gathered(op, op.experts);
    op.experts.where(kept && taken.exists);
    op.sum(op.c, op.n, op.b) = select(with_local, as_f32(op.local(op.c, op.n, op.b)), 0.f);
    op.sum(op.c, op.n, op.b) += as_f32(op.a(op.c, taken.row, op.experts, op.b));

    const Expr deserted = !with_local && op.routed != 0 && op.count(op.n, op.b) == 0;
    const Expr value = select(!kept, 0.f, deserted, op.null_token(op.c), op.sum(op.c, op.n, op.b) * op.factor(op.n, op.b));
    op.out(op.c, op.n, op.b) = as_stored(value, storage);
    constrain_shapes(op);
    return op;
}

std::vector<Argument> Combine::arguments() const {
    return {a, slots, valid, local, null_token, mask, routed, has_local, divide, divisor};
}

std::vector<Func> Combine::outputs() const {
    return {out};
}

MOA_OPERATION(Combine, "combine", make_combine);

}  // namespace moa
