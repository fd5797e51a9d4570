#pragma once

#include "generators/token_selection.h"
#include "schedules/warps_cuda.h"

namespace moa::cuda {

// Everything before the places, at a block of their consumer: keys and what is made of them is in shared memory.
inline void schedule_token_selection(TokenSelection &op, const Halide::LoopLevel &block) {
    using namespace Halide;
    const Var &l = op.warps.l, &w = op.warps.w;
    const auto shared = [&](const Func &f) -> Func { return in_shared(op.warps, f, block); };
    // A value a thread. Warps read the last lanes of others: a pitch of 33 words puts these in different banks.
    const auto shown = [&](const Func &f) -> LoopLevel {
        shared(f).bound(l, 0, Warps::kLanes).bound(w, 0, Warps::kWarps).align_storage(l, Warps::kLanes + 1).gpu_threads(l, w);
        return {f, l};
    };
    shared(op.keys);
    by_threads(op.keys, op.n, TokenSelection::kUnrolled);
    for (auto &level : op.levels) {
        RVar warp("warp"), lane("lane");
        shared(level.histogram).bound(op.x, 0, 1 << level.bits);
        by_threads(level.histogram, op.x);
        level.histogram.update()
            .atomic()
            .split(level.items.x, warp, lane, Warps::kLanes)
            .reorder(level.items.y, lane, warp, level.items.z)
            .unroll(level.items.y)
            .gpu_threads(lane, warp);
        for (Func f : {level.taken, level.digit}) {
            f.compute_at(level.histogram, lane).bound_extent(op.x, 1).bound_extent(w, 1).bound_extent(op.item, TokenSelection::kUnrolled).unroll(op.item);
        }
        const LoopLevel thread = shown(level.upto);
        in_registers({level.own}, thread);
        level.own.update().unroll(level.own_bins);
        in_registers(level.scan, thread);

        const RVar bin = level.choice.x, of_warp = level.choice.y, of_block = level.choice.z;
        // The exchanges of lanes end before the loop over bins, and so before the condition on who writes.
        shared(level.found).bound(op.x, 0, 1).update().allow_race_conditions().reorder(bin, of_warp, of_block).unroll(bin).gpu_threads(of_warp, of_block);
        in_registers({level.earlier}, LoopLevel(level.found, of_warp));
        in_registers(level.before, LoopLevel(level.found, of_warp));
    }

    Var round("round"), warp("warp");
    shared(op.bits).update().allow_race_conditions().split(op.x, round, warp, Warps::kWarps, TailStrategy::GuardWithIf).reorder(op.lanes, warp, round).gpu_threads(op.lanes, warp);
    LoopLevel thread = shown(op.upto);
    in_registers({op.own}, thread);
    in_registers(op.scan, thread);
    thread = shown(op.base);
    in_registers({op.earlier}, thread);
    in_registers(op.before, thread);
}

}  // namespace moa::cuda
