#include "moa/tensor.h"

#include "runtime/text.h"

#include <algorithm>
#include <array>
#include <limits>

namespace moa {

std::string_view name_of(DType dtype) {
    switch (dtype) {
    case DType::f32:
        return "f32";
    case DType::bf16:
        return "bf16";
    case DType::f16:
        return "f16";
    case DType::f64:
        return "f64";
    case DType::i32:
        return "i32";
    case DType::i64:
        return "i64";
    case DType::u8:
        return "u8";
    case DType::boolean:
        return "boolean";
    }
    return "unknown";
}

size_t size_bytes(DType dtype) {
    switch (dtype) {
    case DType::f32:
    case DType::i32:
        return 4;
    case DType::bf16:
    case DType::f16:
        return 2;
    case DType::f64:
    case DType::i64:
        return 8;
    case DType::u8:
    case DType::boolean:
        return 1;
    }
    return 1;
}

uint8_t dlpack_code(DType dtype) {
    constexpr uint8_t kInt = 0, kUInt = 1, kFloat = 2, kBfloat = 4, kBool = 6;
    switch (dtype) {
    case DType::f32:
    case DType::f64:
    case DType::f16:
        return kFloat;
    case DType::bf16:
        return kBfloat;
    case DType::i32:
    case DType::i64:
        return kInt;
    case DType::u8:
        return kUInt;
    case DType::boolean:
        return kBool;
    }
    return kUInt;
}

namespace {

struct ForeignDevice {
    int type;  // DLPack's DLDeviceType
    std::string_view name, meaning;
};

constexpr std::array<ForeignDevice, 13> kForeignDevices{{{3, "cuda_host", "pinned host memory"},
                                                         {4, "opencl", "an OpenCL device"},
                                                         {7, "vulkan", "a Vulkan buffer"},
                                                         {8, "metal", "a Metal device"},
                                                         {9, "vpi", "a Verilog simulation"},
                                                         {10, "rocm", "an AMD GPU"},
                                                         {11, "rocm_host", "pinned host memory of ROCm"},
                                                         {12, "ext_dev", "an extension device"},
                                                         {13, "cuda_managed", "CUDA's managed memory"},
                                                         {14, "oneapi", "a oneAPI device"},
                                                         {15, "webgpu", "a WebGPU device"},
                                                         {16, "hexagon", "a Hexagon device"},
                                                         {17, "maia", "a MAIA device"}}};

constexpr const char *kNoMemory = "(no memory)";  // so short that a string needs none for it

bool has_shape(const TensorView &tensor) {
    return tensor.rank >= 0 && tensor.rank <= kMaxRank;
}

}  // namespace

std::string name_of(const Device &device) try {
    if (device.type == DeviceType::cpu) {
        return device == Device{} ? "cpu" : text("cpu:{}", device.index);
    }
    if (device.type == DeviceType::cuda) {
        return text("cuda:{}", device.index);
    }
    const auto type = static_cast<int>(device.type);
    const auto *known = std::find_if(kForeignDevices.begin(), kForeignDevices.end(), [&](const ForeignDevice &foreign) { return foreign.type == type; });
    return known != kForeignDevices.end() ? text("{} ({}:{})", known->meaning, known->name, device.index) : text("DLPack device type {}:{}", type, device.index);
} catch (...) {
    return kNoMemory;
}

TensorView::TensorView(void *memory, DType type, std::span<const int64_t> sizes, Device where)
    : data(memory), dtype(type), device(where) {
    if (sizes.size() > kMaxRank) {
        data = nullptr;
        rank = -1;
        return;
    }
    rank = static_cast<int>(sizes.size());
    std::copy(sizes.begin(), sizes.end(), shape.begin());
    uint64_t stride = 1;  // unsigned: shapes from outside may overflow here, and are refused by their element count
    for (int axis = rank - 1; axis >= 0; axis--) {
        strides[axis] = static_cast<int64_t>(stride);
        stride *= static_cast<uint64_t>(std::max<int64_t>(shape[axis], 1));
    }
}

TensorView::TensorView(void *memory, DType type, std::initializer_list<int64_t> sizes, Device where)
    : TensorView(memory, type, std::span<const int64_t>(sizes.begin(), sizes.size()), where) {
}

TensorView::TensorView(const void *memory, DType type, std::initializer_list<int64_t> sizes, Device where)
    : TensorView(const_cast<void *>(memory), type, std::span<const int64_t>(sizes.begin(), sizes.size()), where) {
}

int64_t TensorView::elements() const {
    if (!has_shape(*this)) {
        return 0;
    }
    int64_t count = 1;
    for (int axis = 0; axis < rank; axis++) {
        if (shape[axis] == 0) {
            return 0;
        }
        if (__builtin_mul_overflow(count, shape[axis], &count)) {
            count = std::numeric_limits<int64_t>::max();
        }
    }
    return count;
}

bool TensorView::contiguous() const {
    if (!has_shape(*this)) {
        return false;
    }
    uint64_t stride = 1;  // as above
    for (int axis = rank - 1; axis >= 0; axis--) {
        if (shape[axis] != 1 && strides[axis] != static_cast<int64_t>(stride)) {
            return false;
        }
        stride *= static_cast<uint64_t>(std::max<int64_t>(shape[axis], 1));
    }
    return true;
}

std::string TensorView::describe() const try {
    if (!has_shape(*this)) {
        return text("{} of rank {} on {}", name_of(dtype), rank, name_of(device));
    }
    const auto axes = static_cast<size_t>(rank);
    std::string result = text("{} {} on {}", name_of(dtype), text_of(std::span<const int64_t>(shape.data(), axes)), name_of(device));
    return contiguous() ? result : result + " with strides " + text_of(std::span<const int64_t>(strides.data(), axes));
} catch (...) {
    return kNoMemory;
}

}  // namespace moa
