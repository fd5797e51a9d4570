#pragma once

#include "moa/rows.h"

#include <string>
#include <vector>

namespace moa::tools {

// Names of the features that a row requires and a device lacks; none: it can run there.
std::vector<std::string> missing_features(const Row &row, const DeviceDescription &device);

}  // namespace moa::tools
