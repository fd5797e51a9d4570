#include "generators/route_slots.h"

namespace moa {

void schedule_route_slots_reference(RouteSlots &, const Halide::Target &, const Values &) {
}

MOA_SCHEDULE(RouteSlots, reference, schedule_route_slots_reference);

}  // namespace moa
