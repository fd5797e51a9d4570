#pragma once

#include "runtime/layers/local_core.h"

#include <cstdint>
#include <vector>

namespace moa {

// The windows that the kernels are told of, so that neither tables nor work grow with windows beyond the input: slots that are no
// position of it are left out, and counted (generators/local_attention.h).
struct SeenWindows {
    int64_t window = 1, look_backward = 1, look_forward = 1;
    int64_t left_out = 0, left_outside = 0, zero_keys = 0;

    int64_t slots() const {
        return (look_backward + 1 + look_forward) * window;
    }
};

SeenWindows all_windows(const LocalWindows &windows);
SeenWindows seen_windows(const LocalWindows &windows, int64_t length, bool masked);

struct SlotTables {
    std::vector<float> q_cos, q_sin, k_cos, k_sin;  // [slots, d]
};

SlotTables slot_tables(const LocalWindows &windows, const SeenWindows &seen);

}  // namespace moa
