#pragma once

#include "generators/codegen/kernel.h"

namespace moa {

// Indices in(k, r, b) between the API's 64 bits and the kernels' 32. Static "narrow" 1: to 32 bits, into [0, limit);
// 0: to 64 bits, as they are.
struct CopyIndices {
    Halide::ImageParam in;
    Halide::Param<int> limit{"limit"};
    Halide::Var k{"k"}, r{"r"}, b{"b"};
    Halide::Func out{"out"};

    std::vector<Halide::Argument> arguments() const;
    std::vector<Halide::Func> outputs() const;
};

CopyIndices make_copy_indices(Halide::Type storage, const Values &statics);

}  // namespace moa
