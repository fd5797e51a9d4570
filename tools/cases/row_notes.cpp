#include "tools/cases/row_notes.h"

#include "runtime/text.h"

#include <algorithm>

namespace moa::tools {

namespace {

bool has(std::span<const std::string> names, const std::string &name) {
    return std::find(names.begin(), names.end(), name) != names.end();
}

}  // namespace

const Row *find_row(std::string_view name) {
    const auto built = built_rows();
    const auto found = std::find_if(built.begin(), built.end(), [&](const Row &row) { return row.name == name; });
    return found == built.end() ? nullptr : &*found;
}

bool is_reference(const Row &row) {
    return row.schedule == "reference";
}

std::vector<std::string> rows_of(std::span<const Plan::Step> steps) {
    std::vector<std::string> rows;
    for (const Plan::Step &step : steps) {
        if (!step.row.empty() && !has(rows, step.row)) {
            rows.push_back(step.row);
        }
    }
    return rows;
}

std::vector<std::string> reference_warnings(std::span<const Plan::Step> steps, std::span<const std::string> forced) {
    std::vector<std::string> warnings;
    for (const Plan::Step &step : steps) {
        const Row *row = find_row(step.row);
        if (row == nullptr || !is_reference(*row) || has(forced, step.row)) {
            continue;
        }
        const std::string others = step.passed_over.empty() ? "no other was built" : text("{}", fmt::join(step.passed_over, "; "));
        const std::string warning = text("step '{}' takes {}, a reference row, many times slower than others ({})", step.name, step.row, others);
        if (!has(warnings, warning)) {
            warnings.push_back(warning);
        }
    }
    return warnings;
}

}  // namespace moa::tools
