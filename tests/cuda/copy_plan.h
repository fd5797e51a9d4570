#pragma once

#include "moa/plan.h"
#include "runtime/plan_builder.h"

#include <string_view>

namespace moa::tests {

constexpr Device kGpu{DeviceType::cuda, 0};

// A plan of one step. Which row is taken decides which module is loaded: `narrow` tells two apart.
inline Result<Plan> indices_plan(bool narrow) {
    PlanOptions options;
    options.device = kGpu;
    PlanBuilder builder(options);
    const Handle in = builder.input("in", narrow ? DType::i64 : DType::i32, {1, 2, 30});
    const Handle out = builder.output("out", narrow ? DType::i32 : DType::i64, {1, 2, 30});
    builder.step("copy", [=](const Frame &f) { return ops::CopyIndices{f[in], f[out], 100}; });
    return builder.finish();
}

inline bool says(const Status &status, std::string_view part) {
    return status.message().find(part) != std::string::npos;
}

}  // namespace moa::tests
