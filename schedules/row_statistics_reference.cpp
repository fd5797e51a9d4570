#include "generators/row_statistics.h"

namespace moa {

void schedule_row_statistics_reference(RowStatistics &op, const Halide::Target &, const Values &) {
    for (Halide::Func f : {op.moments.sum_parts, op.moments.sums, op.moments.deviation_parts, op.moments.deviations}) {
        f.compute_root();
    }
}

MOA_SCHEDULE(RowStatistics, reference, schedule_row_statistics_reference);

}  // namespace moa
