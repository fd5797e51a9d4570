#pragma once

#include <string_view>

namespace moa::workloads {

// Registers the tests of an operation's rows, or of all with an empty name.
void register_row_tests(std::string_view op);

}  // namespace moa::workloads
