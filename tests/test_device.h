#pragma once

#include "moa/cuda.h"
#include "moa/plan.h"
#include "runtime/cuda/mirrors.h"

#include <charconv>
#include <cstdlib>
#include <string_view>

namespace moa::tests {

// Where tests of whole layers run: MOA_TEST_DEVICE, as in "cuda:0"; the cpu without it.
inline Device test_device() {
    const char *name = std::getenv("MOA_TEST_DEVICE");
    const std::string_view text = name != nullptr ? name : "cpu";
    if (!text.starts_with("cuda")) {
        return {};
    }
    Device device{DeviceType::cuda, 0};
    if (text.starts_with("cuda:")) {
        std::from_chars(text.data() + 5, text.data() + text.size(), device.index);
    }
    return device;
}

inline bool on_gpu() {
    return test_device().type == DeviceType::cuda;
}

// Tests of GPUs in particular: there without MOA_TEST_DEVICE, too, if the machine has one.
inline Device test_gpu() {
    return on_gpu() ? test_device() : Device{DeviceType::cuda, 0};
}

// With tensors of the host, wherever the plan runs.
inline Status run(const Plan &plan, std::initializer_list<NamedTensor> tensors) {
    return cuda::run_with_host_tensors(plan, {tensors.begin(), tensors.size()});
}

}  // namespace moa::tests
