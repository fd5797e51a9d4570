#pragma once

#include "generators/token_selection.h"

namespace moa {

// Everything in memory, where simulated lanes read it; a row at a time.
inline void schedule_token_selection_reference(TokenSelection &op, const Halide::LoopLevel &row) {
    using namespace Halide;
    const auto of_lanes = [&](const std::vector<Func> &funcs) {
        for (Func f : funcs) {
            f.compute_at(row).bound(op.warps.l, 0, Warps::kLanes).bound(op.warps.w, 0, Warps::kWarps);
        }
    };
    for (auto &level : op.levels) {
        level.histogram.compute_at(row).bound(op.x, 0, 1 << level.bits);
        level.found.compute_at(row);
        of_lanes({level.own, level.upto, level.earlier});
        of_lanes(level.scan);
        of_lanes(level.before);
    }
    op.keys.compute_at(row);
    op.bits.compute_at(row);
    of_lanes({op.own, op.upto, op.earlier, op.base});
    of_lanes(op.scan);
    of_lanes(op.before);
}

}  // namespace moa
