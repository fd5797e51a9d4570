#pragma once

#include "generators/codegen/kernel.h"

namespace moa {

// The operation of route_slots.h for schedules that give a row to a block of threads: slots are cleared and then written in
// two steps of one definition, so that one kernel does both.
struct RouteSlotsGpu {
    Halide::ImageParam indices{Halide::Int(32), 3, "indices"};
    Halide::ImageParam mask{Halide::UInt(8), 2, "mask"};
    Halide::ImageParam y{Halide::Float(32), 3, "y"};
    Halide::Param<int> soft{"soft"}, source_div{"source_div"};
    Halide::Var k{"k"}, n{"n"}, r{"r"}, b{"b"};
    Halide::RDom writes;  // position or slot, step
    Halide::Func scores{"scores"}, valid{"valid"}, slots{"slots"}, rows{"rows"};

    std::vector<Halide::Argument> arguments() const;
    std::vector<Halide::Func> outputs() const;
};

RouteSlotsGpu make_route_slots_gpu(Halide::Type storage, const Values &statics);

}  // namespace moa
