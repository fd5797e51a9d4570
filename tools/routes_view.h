#pragma once

#include "tools/models/masked_lm.h"

#include <cstdint>
#include <string>
#include <vector>

namespace moa::tools {

// Which of the first `columns` positions each expert of each layer chose, under the passage's characters: dark for queries,
// light for those that it only attends to.
std::string routes_as_text(const std::vector<LayerRoutes> &layers, const std::string &passage, int64_t columns);

// The same of the whole passage, as a picture.
std::string routes_as_svg(const std::vector<LayerRoutes> &layers, const std::string &passage);

}  // namespace moa::tools
