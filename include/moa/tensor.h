#pragma once

#include "moa/export.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace moa {

// Element types. `code`, `bits` and `lanes` of DLPack's DLDataType follow from these: dlpack_code(), size_bytes().
enum class DType : uint8_t { f32,
                             bf16,
                             f16,
                             f64,
                             i32,
                             i64,
                             u8,
                             boolean };

MOA_EXPORT std::string_view name_of(DType dtype);
MOA_EXPORT size_t size_bytes(DType dtype);
MOA_EXPORT uint8_t dlpack_code(DType dtype);  // DLDataTypeCode

// Values of DLPack's DLDeviceType. Other values of it (pinned host memory 3, managed memory 13, ...) may stand in a tensor's
// device, so that messages name them; every call refuses them. Pinned and managed memory are passed as what reads them: cpu or cuda.
enum class DeviceType : int32_t { cpu = 1,
                                  cuda = 2 };

struct Device {
    DeviceType type = DeviceType::cpu;
    int32_t index = 0;  // of a GPU: from 0 on. The cpu's is 0 or, as PyTorch has it, -1: one device. Others are refused.

    friend bool operator==(const Device &a, const Device &b) {
        const auto host = [](const Device &device) { return device.type == DeviceType::cpu && device.index == -1; };
        return a.type == b.type && (host(a) ? 0 : a.index) == (host(b) ? 0 : b.index);
    }
};

MOA_EXPORT std::string name_of(const Device &device);  // "cpu", "cuda:0"; "pinned host memory (cuda_host:0)"

constexpr int kMaxRank = 6;

// A view of memory that the caller owns, with DLPack's fields: row-major shapes, outermost axis first, strides in
// elements. The innermost stride must be 1 where a call does not say otherwise; the others are free, 0 included, but not
// negative. Kernels index with 32 bits: no tensor of a run has more than 2^31 - 1 elements, nor that many between its first and
// its last. Data is aligned to the size of an element.
struct MOA_EXPORT TensorView {
    void *data = nullptr;
    DType dtype = DType::f32;
    Device device;
    int rank = 0;
    std::array<int64_t, kMaxRank> shape{};
    std::array<int64_t, kMaxRank> strides{};

    TensorView() = default;
    // Contiguous. Ranks above kMaxRank give an empty view (rank -1), which every call refuses.
    TensorView(void *data, DType dtype, std::span<const int64_t> shape, Device device = {});
    TensorView(void *data, DType dtype, std::initializer_list<int64_t> shape, Device device = {});
    // For inputs: calls that take inputs never write through them.
    TensorView(const void *data, DType dtype, std::initializer_list<int64_t> shape, Device device = {});

    bool empty() const {
        return data == nullptr;
    }
    int64_t elements() const;  // product of the shape; saturates at INT64_MAX; 0 for a rank that is none of 0 to kMaxRank
    bool contiguous() const;
    std::string describe() const;  // "f32 [2, 512, 128] on cpu"
};

}  // namespace moa
