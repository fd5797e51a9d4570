#pragma once

#include "workloads/workload.h"

#include <string_view>

namespace moa::workloads {

struct RowTests {
    std::string_view op;  // empty: of all operations
    bool gpus = false;    // rows for GPUs only
    // Every row with every irregular shape that it takes (tails, masks, strides, empty tensors), once: what a sanitizer, which
    // slows a kernel a hundredfold, can watch in minutes.
    bool brief = false;
};

// Runs the row once on an instance that was prepared for it, with scratch of its own and poisoned outputs.
Status run_with(Instance &instance, const Row &row, int threads);

void register_row_tests(const RowTests &wanted);

}  // namespace moa::workloads
