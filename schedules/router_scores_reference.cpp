#include "generators/router_scores.h"

namespace moa {

void schedule_router_scores_reference(RouterScores &op, const Halide::Target &, const Values &) {
    for (Halide::Func f : {op.moments.sum_parts, op.moments.sums, op.moments.deviation_parts, op.moments.deviations,
                           op.dots.parts, op.dots.total, op.squares.parts, op.squares.total, op.token_squares.parts, op.token_squares.total,
                           op.row_factor, op.token_factor}) {
        f.compute_root();
    }
}

MOA_SCHEDULE(RouterScores, reference, schedule_router_scores_reference);

}  // namespace moa
