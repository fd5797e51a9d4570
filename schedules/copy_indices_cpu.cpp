#include "generators/copy_indices.h"

namespace moa {

using namespace Halide;

void schedule_copy_indices_cpu(CopyIndices &op, const Target &target, const Values &) {
    op.out.vectorize(op.k, target.natural_vector_size<int32_t>(), TailStrategy::GuardWithIf);
}

MOA_SCHEDULE(CopyIndices, cpu, schedule_copy_indices_cpu);

}  // namespace moa
