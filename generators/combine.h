#pragma once

#include "generators/codegen/kernel.h"

namespace moa {

// Every position gathers its rows of a(c, m, e, b) by the inverse map slots(n, e, b) (-1: none; without routing, row n of
// every expert), adds the local branch and divides by how many there were (1), by a constant (2) or not at all (0). Where
// none of the gathered rows is valid and there is no local branch, the null token stands instead; masked positions are 0.
// Rows that are not gathered are not read: a NaN stays where it was routed from.
struct Combine {
    Halide::ImageParam a;
    Halide::ImageParam slots{Halide::Int(32), 3, "slots"};  // (n, e, b)
    Halide::ImageParam valid{Halide::UInt(8), 3, "valid"};  // (m, e, b)
    Halide::ImageParam local;                               // (c, n, b), unread without a local branch
    Halide::ImageParam null_token{Halide::Float(32), 1, "null_token"};
    Halide::ImageParam mask{Halide::UInt(8), 2, "mask"};  // (n, b)
    Halide::Param<int> routed{"routed"}, has_local{"has_local"}, divide{"divide"};
    Halide::Param<float> divisor{"divisor"};
    Halide::Var c{"c"}, n{"n"}, b{"b"};
    Halide::RDom counted, experts;
    Halide::Func count{"count"};    // (n, b): valid rows, and the local one
    Halide::Func factor{"factor"};  // (n, b)
    Halide::Func sum{"sum"};        // (c, n, b)
    Halide::Func out{"out"};

    std::vector<Halide::Argument> arguments() const;
    std::vector<Halide::Func> outputs() const;
};

Combine make_combine(Halide::Type storage, const Values &statics);

}  // namespace moa
