#include "generators/rotary_table.h"

namespace moa {

void schedule_rotary_table_reference(RotaryTable &, const Halide::Target &, const Values &) {
}

MOA_SCHEDULE(RotaryTable, reference, schedule_rotary_table_reference);

}  // namespace moa
