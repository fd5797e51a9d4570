#pragma once

#include "tools/models/masked_lm.h"

#include <cstdint>
#include <string>

namespace moa::tools {

// How the model's logits compare with those that PyTorch recorded, and what it restores.
struct RecordedComparison {
    double mean_difference = 0, max_difference = 0;
    int64_t masked = 0, restored = 0, restored_by_recorded = 0;
    bool finite = true;

    // f32: rounding moves near-ties of the routing, so a few positions may differ more than the rest.
    static constexpr double kMeanTolerance = 1e-4, kMaxTolerance = 2e-3;
    // bf16, f16 and products of tf32 round much more, and move routes: they are judged by what they restore, and by their mean
    // difference in units of what rounding once does (inner_roundoff()): 4.9 in bf16 on a CPU (`moa demo --dtype bf16`).
    static constexpr int64_t kRestoredTolerance = 2;
    static constexpr double kMeanRoundings = 16;

    bool pass(DType dtype, Precision precision) const;
};

// path: tokens [b, n] i32, masked [b, n], logits [b, n, vocabulary] f32.
Result<RecordedComparison> compare_with_recorded(MaskedLm &model, const std::string &path);

}  // namespace moa::tools
