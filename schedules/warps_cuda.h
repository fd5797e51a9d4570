#pragma once

#include "generators/warps.h"

#include <vector>

// Schedules for CUDA of what generators/warps.h gives: a block has 32 x 32 threads, a row of which is a warp.
namespace moa::cuda {

// A loop over `var` by all threads of a block, in rounds, of which a thread takes `together` at once.
template<class Variable>
Halide::Stage by_threads(Halide::Stage stage, const Variable &var, int together = 1) {
    Variable round(var.name() + "_round"), item(var.name() + "_item"), warp(var.name() + "_warp"), lane(var.name() + "_lane");
    stage.split(var, round, item, Warps::kThreads * together, Halide::TailStrategy::GuardWithIf)
        .split(item, item, warp, Warps::kThreads)
        .split(warp, warp, lane, Warps::kLanes)
        .reorder(item, lane, warp, round)
        .gpu_threads(lane, warp);
    return together > 1 ? stage.unroll(item) : stage;
}

// Of the block's row.
inline Halide::Func in_shared(const Warps &warps, Halide::Func f, const Halide::LoopLevel &block) {
    return f.compute_at(block).store_in(Halide::MemoryType::GPUShared).bound_extent(warps.r, 1).bound_extent(warps.b, 1);
}

// All in a thread's registers.
inline void in_registers(const std::vector<Halide::Func> &funcs, const Halide::LoopLevel &thread) {
    for (Halide::Func f : funcs) {
        f.compute_at(thread);
    }
}

}  // namespace moa::cuda
