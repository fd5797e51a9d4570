#pragma once

#include "generators/codegen/kernel.h"
#include "generators/math.h"

namespace moa {

// What later operations want to know of the selected positions indices(k, r, b), all distinct in a row. Batch row b takes
// its tokens from row b / source_div of the input. The slots are the algorithm's.
struct SlotRoutes {
    Halide::ImageParam indices{Halide::Int(32), 3, "indices"};
    Halide::ImageParam mask{Halide::UInt(8), 2, "mask"};  // (n, b)
    Halide::ImageParam y{Halide::Float(32), 3, "y"};      // (n, r, b): read if soft != 0
    Halide::Param<int> soft{"soft"}, source_div{"source_div"};
    Halide::Var k{"k"}, n{"n"}, r{"r"}, b{"b"};
    Halide::Func scores{"scores"};  // (k, r, b): 0 where masked, else 1, or y if soft
    Halide::Func valid{"valid"};    // (k, r, b): mask of the source's token, as 0 or 1
    Halide::Func slots{"slots"};    // (n, r, b): the slot of a position, -1 where it has none
    Halide::Func rows{"rows"};      // (k, r, b): row of the source's token among those of all batch rows

    std::vector<Halide::Argument> arguments() const {
        return {indices, mask, y, soft, source_div};
    }
    std::vector<Halide::Func> outputs() const {
        return {scores, valid, slots, rows};
    }

    Halide::Expr positions() const {
        return mask.dim(0).extent();
    }
    // Routes may come from the caller: a wrong one must not read or write out of bounds.
    Halide::Expr position(const Halide::Expr &slot) const {
        return clamp(indices(slot, r, b), 0, positions() - 1);
    }
    // After the slots.
    void define_routes() {
        const Halide::Expr source = b / source_div;
        scores(k, r, b) = select(mask(position(k), b) == 0, 0.f, soft != 0, y(position(k), r, b), 1.f);
        valid(k, r, b) = Halide::cast<uint8_t>(mask(position(k), source) != 0);
        rows(k, r, b) = source * positions() + position(k);
        allow_any_stride(mask, y);
        for (int axis = 0; axis < 3; axis++) {
            const Halide::Expr extent = indices.dim(axis).extent();
            for (const Halide::Func &f : {scores, valid, rows}) {
                f.output_buffer().dim(axis).set_bounds(0, extent);
            }
            slots.output_buffer().dim(axis).set_bounds(0, axis == 0 ? positions() : extent);
        }
    }
};

struct RouteSlots : SlotRoutes {
    Halide::RDom taken;
};

RouteSlots make_route_slots(Halide::Type storage, const Values &statics);

}  // namespace moa
