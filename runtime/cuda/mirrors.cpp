#include "runtime/cuda/mirrors.h"

#include <algorithm>

namespace moa::cuda {

namespace {

constexpr size_t kPeriod = 256;

size_t remainder_of(const std::byte *memory) {
    return reinterpret_cast<uintptr_t>(memory) % kPeriod;
}

}  // namespace

Result<Mirrors> Mirrors::of(const Device &device, std::span<const std::span<std::byte>> blocks) {
    Result<std::shared_ptr<const Context>> context = Context::of(device);
    if (!context.ok()) {
        return context.status();
    }
    size_t bytes = 0;
    for (const std::span<std::byte> &block : blocks) {
        bytes += (remainder_of(block.data()) + block.size() + kPeriod - 1) / kPeriod * kPeriod;
    }
    Result<std::shared_ptr<DeviceMemory>> memory = DeviceMemory::allocate(*context, bytes);
    if (!memory.ok()) {
        return memory.status();
    }
    Mirrors mirrors;
    mirrors.memory_ = *std::move(memory);
    size_t offset = 0;
    for (const std::span<std::byte> &block : blocks) {
        mirrors.blocks_.push_back(block);
        mirrors.list_.push_back({block.data(), block.size(), mirrors.memory_->data() + offset + remainder_of(block.data())});
        offset += (remainder_of(block.data()) + block.size() + kPeriod - 1) / kPeriod * kPeriod;
    }
    return mirrors;
}

Status Mirrors::upload(size_t block) const {
    return memory_->copy_from_host(blocks_[block].data(), blocks_[block].size(), static_cast<size_t>(list_[block].copy - memory_->data()));
}

Status Mirrors::download(size_t block) const {
    return memory_->copy_to_host(blocks_[block].data(), blocks_[block].size(), static_cast<size_t>(list_[block].copy - memory_->data()));
}

Status Mirrors::upload_all() const {
    for (size_t block = 0; block < blocks_.size(); block++) {
        if (Status status = upload(block); !status) {
            return status;
        }
    }
    return {};
}

std::span<std::byte> span_of(const TensorView &tensor) {
    int64_t last = 0;
    for (int axis = 0; axis < tensor.rank; axis++) {
        if (tensor.shape[axis] == 0) {
            return {};
        }
        last += (tensor.shape[axis] - 1) * tensor.strides[axis];
    }
    return {static_cast<std::byte *>(tensor.data), static_cast<size_t>(last + 1) * size_bytes(tensor.dtype)};
}

Status run_with_host_tensors(const Plan &plan, std::span<const NamedTensor> tensors) {
    if (plan.device().type == DeviceType::cpu) {
        return plan.run(tensors);
    }
    std::vector<std::span<std::byte>> blocks;
    for (const NamedTensor &named : tensors) {
        blocks.push_back(named.tensor.data == nullptr ? std::span<std::byte>() : span_of(named.tensor));
    }
    const Result<Mirrors> mirrors = Mirrors::of(plan.device(), blocks);
    if (!mirrors.ok()) {
        return mirrors.status();
    }
    std::vector<NamedTensor> copies(tensors.begin(), tensors.end());
    for (size_t i = 0; i < copies.size(); i++) {
        copies[i].tensor.device = copies[i].tensor.device.type == DeviceType::cpu ? plan.device() : copies[i].tensor.device;
        copies[i].tensor.data = copies[i].tensor.data == nullptr ? nullptr : mirrors->list()[i].copy;
    }
    if (Status status = mirrors->upload_all(); !status) {
        return status;
    }
    if (Status status = plan.run(copies); !status) {
        return status;
    }
    for (size_t i = 0; i < copies.size(); i++) {
        const auto output = [&](const Plan::Argument &argument) { return argument.output && argument.name == copies[i].name; };
        if (!std::any_of(plan.arguments().begin(), plan.arguments().end(), output)) {
            continue;
        }
        if (Status status = mirrors->download(i); !status) {
            return status;
        }
    }
    return {};
}

}  // namespace moa::cuda
