#pragma once

#include "Halide.h"

namespace moa::codegen {

// Makes a schedule's prefetch() on CPUs what it says: fetches every cache line of the region, into all levels of the cache.
// Halide 21 counts the distance of lines in elements where it means bytes (Prefetch.cpp), so that most lines are missed,
// loops over them at run time, and asks for data without temporal locality: with that hint, products are slower by a third
// than without any prefetch.
class PrefetchLines : public Halide::Internal::IRMutator {
    using Halide::Internal::IRMutator::visit;
    Halide::Internal::Stmt visit(const Halide::Internal::For *loop) override;
    Halide::Internal::Stmt visit(const Halide::Internal::Evaluate *statement) override;
};

}  // namespace moa::codegen
