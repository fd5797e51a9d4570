#include "generators/local_attention.h"

namespace moa {

using namespace Halide;

// A query at a time, nothing tiled.
void schedule_local_attention_reference(LocalAttention &a, const Target & /*target*/, const Values & /*knobs*/) {
    for (Func f : {a.state, a.turned, a.queries, a.mean}) {
        f.compute_at(a.out, a.rows.x);
    }
    for (Func f : {a.shown, a.any_shown, a.largest_value}) {
        f.compute_at(a.out, a.u);
    }
    a.largest_of_channel.compute_at(a.largest_value, a.u);
    for (Func f : {a.all_hidden, a.seen, a.not_finite}) {
        f.compute_at(a.out, a.rows.x);
    }
    for (Func f : {a.first_row, a.row_count, a.keys, a.values, a.score, a.block_maximum, a.weight, a.block_sum, a.mixed}) {
        f.compute_at(a.state, a.steps.y);
    }
    a.query_squares.compute_at(a.out, a.rows.x);
    a.key_squares.compute_at(a.keys, a.s);
    a.product.compute_at(a.score, a.key);
    a.mix.compute_at(a.mixed, a.d);
    a.out.update().reorder(a.d, a.rows.x, a.rows.y, a.u, a.h, a.b);
}

MOA_SCHEDULE(LocalAttention, reference, schedule_local_attention_reference);

}  // namespace moa
