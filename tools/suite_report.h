#pragma once

#include "moa/device.h"
#include "moa/plan.h"
#include "tools/timing.h"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace moa::tools {

// One case's results; `error` instead of them if it did not run or ran wrong.
struct CaseResult {
    std::string_view name;
    Status error;
    Timing timing;
    double flops = 0, bytes = 0;
    size_t workspace_bytes = 0;
    uint64_t output_hash = 0;
    std::vector<Plan::Step> steps;
    std::vector<std::string> warnings;  // steps that run reference rows
    std::vector<double> step_seconds;   // medians; only with --steps
    double launch_seconds = 0;          // GPUs: of the host, for all steps of a run
    size_t launches = 0;                // GPUs: kernels, copies and fills of a run
    double weight_bytes = 0, output_bytes = 0;
    double layer_mb = 0;           // CPUs: resident memory of inputs, outputs, weights and plan
    std::optional<double> run_mb;  // CPUs: its largest growth in runs
};

// What ran, in words: "bf16", "tf32".
std::string_view numbers_of(const PlanOptions &options);

void print_json(const std::vector<CaseResult> &results, const PlanOptions &options, const DeviceDescription &device, int threads);
void print_table(const std::vector<CaseResult> &results, const PlanOptions &options, int threads);
// `copied`: bytes a second of the GPU's own copies.
void print_gpu_table(const std::vector<CaseResult> &results, const PlanOptions &options, const DeviceDescription &device, double copied);

}  // namespace moa::tools
