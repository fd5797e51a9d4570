#include "generators/router_scores.h"

namespace moa {

void schedule_router_scores_reference(RouterScores &op, const Halide::Target &, const Values &) {
    for (Halide::Func f : {op.moments.sum_parts, op.moments.sums, op.moments.deviation_parts, op.moments.deviations,
                           op.square_parts, op.squares, op.token_squares, op.dot_parts, op.dots}) {
        f.compute_root();
    }
}

MOA_SCHEDULE(RouterScores, reference, schedule_router_scores_reference);

}  // namespace moa
