#pragma once

#include "workloads/workload.h"

#include <string_view>
#include <vector>

namespace moa::workloads {

struct RowTests {
    std::string_view op;  // empty: of all operations
    bool gpus = false;    // rows for GPUs only
    // Every row with every shape that it takes of those that ask for little work (tails, masks, strides, empty tensors, the ends of
    // what rows accept), once: what a sanitizer, which slows a kernel a hundredfold, can watch in minutes.
    bool brief = false;
};

// What a row says of a problem on a machine that has everything, so that only sizes count.
bool accepts(const Row &row, const Problem &problem);

// Runs the row once on an instance that was prepared for it, with scratch of its own and poisoned outputs.
Status run_with(Instance &instance, const Row &row, int threads);

// The names that RowTests::op can have: operations with a workload.
std::vector<std::string_view> tested_operations();

// Rows that no shape reaches get a test that fails.
void register_row_tests(const RowTests &wanted);

}  // namespace moa::workloads
