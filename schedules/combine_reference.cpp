#include "generators/combine.h"

namespace moa {

void schedule_combine_reference(Combine &op, const Halide::Target &, const Values &) {
    for (Halide::Func f : {op.count, op.factor, op.sum}) {
        f.compute_root();
    }
}

MOA_SCHEDULE(Combine, reference, schedule_combine_reference);

}  // namespace moa
