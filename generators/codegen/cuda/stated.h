#pragma once

#include "generators/codegen/cuda/compile.h"

#include <string>

// What a row says of its kernels, against what the compiler made of them.
namespace moa::codegen::cuda {

// Throws std::runtime_error, with the number that is right, if the row states another shared memory than its launches ask for,
// or if registers of its kernels are spilled on one of the architectures that rows are tuned for and the row does not allow
// that many bytes. Where the shared memory follows from sizes, only launches tell (tests/cuda/shared_memory_test.cpp).
// Returns a warning about other architectures; empty: none.
std::string check_stated(const Row &row, const CudaReport &report);

}  // namespace moa::codegen::cuda
