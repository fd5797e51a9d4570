#pragma once

#include "generators/codegen/kernel.h"

namespace moa {

// What later operations want to know of the selected positions indices(k, r, b), all distinct in a row. Batch row b takes
// its tokens from row b / source_div of the input.
struct RouteSlots {
    Halide::ImageParam indices{Halide::Int(32), 3, "indices"};
    Halide::ImageParam mask{Halide::UInt(8), 2, "mask"};  // (n, b)
    Halide::ImageParam y{Halide::Float(32), 3, "y"};      // (n, r, b): read if soft != 0
    Halide::Param<int> soft{"soft"}, source_div{"source_div"};
    Halide::Var k{"k"}, n{"n"}, r{"r"}, b{"b"};
    Halide::RDom taken;
    Halide::Func scores{"scores"};  // (k, r, b): 0 where masked, else 1, or y if soft
    Halide::Func valid{"valid"};    // (k, r, b): mask of the source's token
    Halide::Func slots{"slots"};    // (n, r, b): the slot of a position, -1 where it has none
    Halide::Func rows{"rows"};      // (k, r, b): row of the source's token among those of all batch rows

    std::vector<Halide::Argument> arguments() const;
    std::vector<Halide::Func> outputs() const;
};

RouteSlots make_route_slots(Halide::Type storage, const Values &statics);

}  // namespace moa
