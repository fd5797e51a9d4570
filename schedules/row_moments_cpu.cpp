#include "schedules/row_moments_cpu.h"

namespace moa {

using namespace Halide;

void schedule_row_moments(RowMoments &m, Func consumer, const Var &at, int vector, int rows) {
    const auto tile = [&](Func parts, Func total) {
        parts.compute_at(consumer, at).store_in(MemoryType::Stack).bound_extent(m.n, rows).vectorize(m.l, vector).unroll(m.l).unroll(m.n);
        parts.update().vectorize(m.l, vector).unroll(m.l).unroll(m.n);
        total.compute_at(consumer, at).store_in(MemoryType::Stack).bound_extent(m.n, rows).unroll(m.n);
        total.update(0).atomic().unroll(m.n).vectorize(m.lanes, RowMoments::kLanes);
        total.update(1).unscheduled();
    };
    tile(m.sum_parts, m.sums);
    m.sum_parts.bound(m.q, 0, 2).unroll(m.q).update().unroll(m.q).reorder(m.l, m.q, m.n, m.blocks);
    m.sums.bound(m.q, 0, 2).unroll(m.q).update(0).unroll(m.q);
    tile(m.deviation_parts, m.deviations);
    m.deviation_parts.update().reorder(m.l, m.n, m.blocks);
}

}  // namespace moa
