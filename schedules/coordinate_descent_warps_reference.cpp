#include "generators/coordinate_descent_warps.h"

namespace moa {

using namespace Halide;

// Everything in memory, where simulated lanes read it; a row at a time, which takes less long to compile.
void schedule_coordinate_descent_warps_reference(CoordinateDescentWarps &op, const Target &, const Values &) {
    const auto row = [&](const std::vector<Func> &funcs) {
        for (Func f : funcs) {
            f.compute_at(op.y, op.warps.r);
        }
    };
    const auto of_lanes = [&](const std::vector<Func> &funcs) {
        row(funcs);
        for (Func f : funcs) {
            f.bound(op.warps.l, 0, Warps::kLanes).bound(op.warps.w, 0, Warps::kWarps);
        }
    };
    row({op.values, op.last});
    for (CoordinateDescentWarps::Pass &pass : op.passes) {
        row({pass.state});
        of_lanes({pass.own});
        of_lanes(pass.fold);
    }
    // What all lanes find out alike is made for the warps that ask.
    for (CoordinateDescentWarps::Outcome &outcome : op.outcomes) {
        row({outcome.read, outcome.start});
        row(outcome.fold);
    }
}

MOA_SCHEDULE(CoordinateDescentWarps, reference, schedule_coordinate_descent_warps_reference);

}  // namespace moa
