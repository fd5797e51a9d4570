#pragma once

#include "runtime/run.h"

struct halide_buffer_t;

namespace moa::cuda {

// What a hook returns when it or the driver refused something: no error code of Halide's own.
constexpr int kRefused = -9000;

// Puts memory of a device into a kernel's argument.
void place(halide_buffer_t &buffer, const std::byte *memory);

}  // namespace moa::cuda
