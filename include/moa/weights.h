#pragma once

#include "moa/tensor.h"

#include <functional>
#include <map>
#include <string>

namespace moa {

// What layers are created from: tensors by their state_dict names, f32, bf16 or f16, on the cpu, aligned for their elements, with any
// strides from 0 on. What numbers they hold does not matter. The memory is read while the layer is created, not after.
class TensorMap : public std::map<std::string, TensorView, std::less<>> {
public:
    using std::map<std::string, TensorView, std::less<>>::map;

    // Tensors of a file that no TensorView describes, and why, as in "I8 [64, 64], ...". Nobody need care; a layer that wants
    // one of them fails with that reason.
    std::map<std::string, std::string, std::less<>> unreadable;
};

}  // namespace moa
