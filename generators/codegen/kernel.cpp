#include "generators/codegen/kernel.h"

namespace moa {

std::map<std::string, BuildKernel> &operations() {
    static std::map<std::string, BuildKernel> table;
    return table;
}

Halide::Type storage_type(const std::string &dtype) {
    return dtype == "bf16" ? Halide::BFloat(16) : (dtype == "f16" ? Halide::Float(16) : Halide::Float(32));
}

}  // namespace moa
