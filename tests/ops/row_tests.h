#pragma once

#include <string_view>

namespace moa::workloads {

struct RowTests {
    std::string_view op;  // empty: of all operations
    bool gpus = false;    // rows for GPUs only
    // Every row with every irregular shape that it takes (tails, masks, strides, empty tensors), once: what a sanitizer, which
    // slows a kernel a hundredfold, can watch in minutes.
    bool brief = false;
};

void register_row_tests(const RowTests &wanted);

}  // namespace moa::workloads
