#pragma once

#include "runtime/cuda/mirrors.h"
#include "tools/gpu_timing.h"
#include "tools/timing.h"
#include "workloads/layers.h"

#include <memory>
#include <vector>

namespace moa::tools {

// A layer of the bench with its memory, on the device of its plan.
class CaseRunner {
public:
    virtual ~CaseRunner() = default;
    // `instance` must outlive the runner.
    static Result<std::unique_ptr<CaseRunner>> make(workloads::LayerInstance &instance, Plan plan);

    const Plan &plan() const {
        return plan_;
    }
    // With the instance's tensors as they are; outputs are there when it returns.
    virtual Status run() = 0;
    virtual Result<Timing> measure(const TimingOptions &options) = 0;
    // Seconds in which the host starts a run on a GPU; 0 on the cpu.
    virtual Result<double> launch_seconds(const TimingOptions &) {
        return 0.0;
    }
    // Kernels, copies and fills of a run on a GPU, once it was measured; 0 on the cpu.
    virtual size_t launches() const {
        return 0;
    }
    // Medians of every step's time.
    virtual Result<std::vector<double>> profile(const TimingOptions &options) = 0;

protected:
    CaseRunner(workloads::LayerInstance &instance, Plan plan)
        : instance_(instance), plan_(std::move(plan)) {
    }
    workloads::LayerInstance &instance_;
    Plan plan_;
};

}  // namespace moa::tools
