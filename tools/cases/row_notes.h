#pragma once

#include "moa/plan.h"

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace moa::tools {

const Row *find_row(std::string_view name);  // null: none was built of that name
// Rows of plain loops, which take what no other row takes, many times slower.
bool is_reference(const Row &row);

// Names of the rows that a plan's steps run, each once.
std::vector<std::string> rows_of(std::span<const Plan::Step> steps);

// A sentence for every step that takes a reference row which nobody forced.
std::vector<std::string> reference_warnings(std::span<const Plan::Step> steps, std::span<const std::string> forced);

}  // namespace moa::tools
