#pragma once

#include "moa/rows.h"

#include <cstddef>
#include <string>
#include <vector>

namespace moa::tools {

// Names of the features that a row requires and a device lacks; none: it can run there.
std::vector<std::string> missing_features(const Row &row, const DeviceDescription &device);
std::string where_it_runs(const std::vector<std::string> &missing);  // "runs here", "needs avx2, fma"

// Lines of text in columns as wide as their longest entry, two spaces apart.
class Columns {
public:
    void add(std::vector<std::string> line);
    std::string text() const;

private:
    std::vector<std::vector<std::string>> lines_;
    std::vector<size_t> widths_;
};

}  // namespace moa::tools
