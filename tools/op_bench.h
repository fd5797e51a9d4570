#pragma once

#include "moa/rows.h"
#include "tools/timing.h"
#include "workloads/workload.h"

#include <cstdint>
#include <string>
#include <vector>

namespace moa::tools {

// `moa bench --op`: an operation, its shapes, and rows of its own choice, given ones, or all.
struct OpBench {
    const workloads::Workload *workload = nullptr;
    DeviceDescription device;
    DType dtype = DType::f32;
    Precision precision = Precision::exact;
    std::vector<std::string> shapes;
    std::vector<const Row *> rows;  // none: what select() picks
    bool given_rows = false;
    int threads = 1;
    uint64_t seed = 1;
    TimingOptions timing;
};

int bench_op(const OpBench &bench);  // an exit code

}  // namespace moa::tools
