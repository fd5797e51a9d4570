#pragma once

#include "generators/codegen/kernel.h"

namespace moa {

// table(d, n): cosine and sine of angles(d, n), to 2e-7 for angles up to 2^20 in magnitude.
struct RotaryTable {
    Halide::ImageParam angles{Halide::Float(32), 2, "angles"};
    Halide::Var d{"d"}, n{"n"};
    Halide::Func table{"table"};

    std::vector<Halide::Argument> arguments() const;
    std::vector<Halide::Func> outputs() const;
};

RotaryTable make_rotary_table(Halide::Type storage, const Values &statics);

}  // namespace moa
