#pragma once

#include "Halide.h"

namespace moa::codegen {

// Products of matrix tiles side by side. Halide's AMX support (ExtractTileOperations.cpp) knows one accumulator at a time: a
// multiplication waits 52 cycles for the one before it, and loads both of its operands. Where a schedule unrolls a loop over
// accumulators, their loops are joined here: one loop multiplies into all of them, and what several take is loaded once.
// An accumulator's own order of sums stays as it is. Up to four accumulators, and four operands at a time, fill the registers.
class JoinTiles : public Halide::Internal::IRMutator {
    using Halide::Internal::IRMutator::visit;
    Halide::Internal::Stmt visit(const Halide::Internal::Block *block) override;
};

}  // namespace moa::codegen
