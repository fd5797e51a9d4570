#pragma once

#include "runtime/cuda/mirrors.h"
#include "workloads/workload.h"

namespace moa::workloads {

// An instance on a GPU: copies of its tensors, and the scratch that a row wants. For one row: made after prepare(row).
class GpuInstance {
public:
    static Result<GpuInstance> make(const Device &device, Instance &instance, const Row &row);

    // Copies everything to the GPU, launches once, waits and copies the outputs back, guards included.
    Status run() const;
    // Launches only.
    Status launch(void *stream = nullptr) const;
    const cuda::Context &context() const {
        return mirrors_.context();
    }
    int launches() const {
        return launches_;
    }

private:
    GpuInstance(Instance &instance, const Row &row, cuda::Mirrors mirrors)
        : instance_(&instance), row_(&row), mirrors_(std::move(mirrors)) {
    }

    Instance *instance_;
    const Row *row_;
    cuda::Mirrors mirrors_;
    size_t outputs_ = 0;  // the first blocks
    std::shared_ptr<cuda::DeviceMemory> scratch_;
    int launches_ = 0;
};

}  // namespace moa::workloads
