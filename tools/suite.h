#pragma once

#include "tools/commands.h"
#include "tools/timing.h"

#include <cstdint>
#include <string>
#include <vector>

namespace moa::tools {

// `moa bench --suite`: whole layers (workloads/layers.h).
struct SuiteOptions {
    RunOptions run;
    std::vector<std::string> cases;  // none: all that have the dtype
    bool json = false;
    bool steps = false;  // the time of every step, too
    uint64_t seed = 1;
    TimingOptions timing;
};

int bench_suite(const SuiteOptions &options);  // an exit code

}  // namespace moa::tools
