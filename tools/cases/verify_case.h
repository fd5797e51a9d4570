#pragma once

#include "tools/cases/case_layer.h"
#include "tools/cases/compare.h"

#include <map>
#include <string>
#include <vector>

namespace moa::tools {

using Outputs = std::map<std::string, HostTensor>;  // by the plan's names

// Runs the layer on the case's inputs, stored as the plan wants them. Every output of the plan comes back.
// rounded_as: inputs that this plan stores as bf16 are rounded to it first.
Result<Outputs> run_case(const CaseLayer &layer, const Plan &plan, const Plan *rounded_as = nullptr);

enum class Verdict {
    pass,
    fail,
    unsupported
};
std::string_view name_of(Verdict verdict);

struct CaseReport {
    Verdict verdict = Verdict::pass;
    std::string reason;  // of what is unsupported, or did not run
    std::vector<OutputReport> outputs;
    std::vector<std::string> rows;      // that ran
    std::vector<std::string> warnings;  // steps that ran reference rows
};

// The layer's outputs against the recorded ones. Below f32, rounding moves near ties of the routing: the recorded routes are
// imposed, and the selection is checked against the layer's own similarities. Fails for cases that are inconsistent.
Result<CaseReport> verify_case(const RecordedCase &recorded, const PlanOptions &options);

}  // namespace moa::tools
