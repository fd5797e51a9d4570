#include "generators/attention.h"

namespace moa {

using namespace Halide;

// A query at a time, nothing tiled.
void schedule_attention_reference(Attention &a, const Target & /*target*/, const Values & /*knobs*/) {
    a.state.compute_at(a.out, a.y);
    a.null_score.compute_at(a.out, a.y);
    a.any_valid.compute_at(a.out, a.b);
    a.queries.compute_at(a.out, a.y);
    for (Func f : {a.score, a.block_maximum, a.weight, a.block_sum, a.mixed}) {
        f.compute_at(a.state, a.steps.y);
    }
    a.product.compute_at(a.score, a.key);
    a.mix.compute_at(a.mixed, a.d);
}

MOA_SCHEDULE(Attention, reference, schedule_attention_reference);

}  // namespace moa
