#pragma once

#include "moa/tensor.h"

#include <functional>
#include <map>
#include <string>

namespace moa {

// What layers are created from: tensors by their state_dict names. The memory is read while the layer is created, not after.
using TensorMap = std::map<std::string, TensorView, std::less<>>;

}  // namespace moa
