#include "generators/row_statistics.h"

namespace moa {

using namespace Halide;

// One thread, `rows` rows at a time: for machines that have other work for their cores.
void schedule_row_statistics_serial(RowStatistics &op, const Target &target, const Values &knobs) {
    const int rows = knobs("rows");
    const int vector = std::min(target.natural_vector_size<float>(), RowMoments::kLanes);
    Var tile("tile"), part("part");
    op.stats.split(op.n, tile, part, rows, TailStrategy::GuardWithIf).reorder(part, op.q, tile, op.b);
    for (Func parts : {op.moments.sum_parts, op.moments.deviation_parts}) {
        parts.compute_at(op.stats, tile).store_in(MemoryType::Stack).vectorize(op.moments.l, vector);
        parts.update().vectorize(op.moments.l, vector);
    }
    for (Func total : {op.moments.sums, op.moments.deviations}) {
        total.compute_at(op.stats, tile).store_in(MemoryType::Stack);
    }
}

MOA_SCHEDULE(RowStatistics, serial, schedule_row_statistics_serial);

}  // namespace moa
