#pragma once

#include "moa/plan.h"
#include "moa/status.h"
#include "runtime/cuda/memory.h"
#include "runtime/run.h"

#include <memory>
#include <span>
#include <vector>

namespace moa::cuda {

// Copies of blocks of the host's memory on a GPU, for programs that check and time what runs there with tensors of their
// own. Addresses keep their remainder by 256, so that alignment is what it is on the host.
class Mirrors {
public:
    static Result<Mirrors> of(const Device &device, std::span<const std::span<std::byte>> blocks);

    const Context &context() const {
        return memory_->context();
    }
    std::span<const Mirror> list() const {
        return list_;
    }
    Status upload(size_t block) const;
    Status download(size_t block) const;
    Status upload_all() const;

private:
    std::shared_ptr<DeviceMemory> memory_;
    std::vector<std::span<std::byte>> blocks_;
    std::vector<Mirror> list_;
};

// A plan with tensors of the host: on a GPU, with copies of them, and waits. Outputs that the run leaves alone keep
// their values.
Status run_with_host_tensors(const Plan &plan, std::span<const NamedTensor> tensors);

// The memory between a tensor's first and last element.
std::span<std::byte> span_of(const TensorView &tensor);

}  // namespace moa::cuda
