#pragma once

#include "moa/cuda.h"
#include "moa/plan.h"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <random>
#include <string>
#include <vector>

namespace moa::tests {

// Memory that begins at a multiple of 64 bytes, each of them `content`.
class Bytes {
public:
    explicit Bytes(size_t size, int content = 0)
        : size_(size), memory_(static_cast<std::byte *>(::operator new (size + 64, std::align_val_t{64}))) {
        std::memset(memory_, content, size);
    }
    Bytes(Bytes &&other) noexcept
        : size_(other.size_), memory_(std::exchange(other.memory_, nullptr)) {
    }
    Bytes(const Bytes &) = delete;
    Bytes &operator=(const Bytes &) = delete;
    ~Bytes() {
        ::operator delete (memory_, std::align_val_t{64});
    }
    std::byte *data() const {
        return memory_;
    }
    size_t size() const {
        return size_;
    }
    std::span<std::byte> span() const {
        return {memory_, size_};
    }

private:
    size_t size_;
    std::byte *memory_;
};

// Contiguous tensors for every argument of a plan, the optional ones too, with data that any layer takes: normal numbers, masks of 0 and
// 255, imposed positions in falling order.
class AnyArguments {
public:
    explicit AnyArguments(const Plan &plan)
        : plan_(plan), random_(7) {
        for (const Plan::Argument &argument : plan.arguments()) {
            const TensorView shape(nullptr, argument.dtype, std::span<const int64_t>(argument.shape));
            Bytes &memory = memory_.emplace_back(static_cast<size_t>(shape.elements()) * size_bytes(argument.dtype));
            tensors_.push_back({argument.name, TensorView(memory.data(), argument.dtype, std::span<const int64_t>(argument.shape))});
            if (!argument.output) {
                fill(tensors_.back().tensor);
            }
        }
    }

    std::vector<NamedTensor> &tensors() {
        return tensors_;
    }
    TensorView &operator[](std::string_view name) {
        for (NamedTensor &tensor : tensors_) {
            if (tensor.name == name) {
                return tensor.tensor;
            }
        }
        throw std::out_of_range(std::string(name));
    }
    // Of outputs, one behind the other.
    std::vector<std::byte> outputs() const {
        std::vector<std::byte> all;
        for (size_t i = 0; i < memory_.size(); i++) {
            if (plan_.arguments()[i].output) {
                all.insert(all.end(), memory_[i].data(), memory_[i].data() + memory_[i].size());
            }
        }
        return all;
    }
    void fill_outputs(int content) {
        for (size_t i = 0; i < memory_.size(); i++) {
            if (plan_.arguments()[i].output) {
                std::memset(memory_[i].data(), content, memory_[i].size());
            }
        }
    }
    // On the plan's device, in a workspace whose bytes are `content`.
    Status run(int content) {
        const Bytes workspace(plan_.workspace_bytes(), content);
        if (plan_.device().type == DeviceType::cpu) {
            return plan_.run(tensors_, workspace.span());
        }
        std::vector<cuda::DeviceBuffer> buffers;
        std::vector<NamedTensor> placed = tensors_;
        const auto place = [&](const Bytes &bytes) -> Status {
            Result<cuda::DeviceBuffer> buffer = cuda::DeviceBuffer::allocate(plan_.device(), bytes.size());
            Status status = buffer.ok() ? buffer->copy_from_host(bytes.data(), bytes.size()) : buffer.status();
            if (status.ok()) {
                buffers.push_back(*buffer);
            }
            return status;
        };
        Status status;
        for (size_t i = 0; i < memory_.size() && status.ok(); i++) {
            status = place(memory_[i]);
            placed[i].tensor.data = status.ok() ? buffers.back().data() : nullptr;
            placed[i].tensor.device = plan_.device();
        }
        status = status.ok() ? place(workspace) : status;
        status = status.ok() ? plan_.run(placed, buffers.back().bytes()) : status;
        for (size_t i = 0; i < memory_.size() && status.ok(); i++) {
            status = buffers[i].copy_to_host(memory_[i].data(), memory_[i].size());
        }
        return status;
    }

private:
    void fill(const TensorView &tensor) {
        std::normal_distribution<float> normal;
        for (int64_t i = 0; i < tensor.elements(); i++) {
            const float value = normal(random_);
            if (tensor.dtype == DType::f32) {
                static_cast<float *>(tensor.data)[i] = value;
            } else if (tensor.dtype == DType::bf16 || tensor.dtype == DType::f16) {
                // A sign and a few bits of an exponent near that of 1, in either format.
                const uint16_t one = tensor.dtype == DType::bf16 ? 0x3f00 : 0x3800;
                static_cast<uint16_t *>(tensor.data)[i] = static_cast<uint16_t>((value < 0 ? 0x8000 : 0) | (one + (random_() & 0xff)));
            } else if (tensor.dtype == DType::i64) {
                const int64_t row = tensor.shape[tensor.rank - 1];
                static_cast<int64_t *>(tensor.data)[i] = row - 1 - i % row;
            } else {
                static_cast<uint8_t *>(tensor.data)[i] = value > -0.5f ? 255 : 0;
            }
        }
    }

    const Plan &plan_;
    std::mt19937 random_;
    std::vector<Bytes> memory_;
    std::vector<NamedTensor> tensors_;
};

}  // namespace moa::tests
