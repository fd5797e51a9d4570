#pragma once

#include "generators/route_slots.h"

namespace moa {

// The operation of route_slots.h for schedules that give a row to a block of threads: slots are cleared and then written in
// two steps of one definition, so that one kernel does both.
struct RouteSlotsGpu : SlotRoutes {
    Halide::RDom writes;  // position or slot, step
};

RouteSlotsGpu make_route_slots_gpu(Halide::Type storage, const Values &statics);

}  // namespace moa
