#include "tools/cases/host_tensor.h"

#include "runtime/bf16.h"
#include "runtime/f16.h"

#include <array>
#include <cassert>
#include <cmath>
#include <cstring>
#include <utility>

namespace moa::tools {

namespace {

template<class T>
double element(const void *data) {
    T value;
    std::memcpy(&value, data, sizeof value);
    return static_cast<double>(value);
}

template<class T>
void store(void *data, double value) {
    const T narrow = static_cast<T>(value);
    std::memcpy(data, &narrow, sizeof narrow);
}

double load(DType dtype, const void *data) {
    switch (dtype) {
    case DType::f32:
        return element<float>(data);
    case DType::bf16: {
        uint16_t bits;
        std::memcpy(&bits, data, sizeof bits);
        return bf16_to_f32(bits);
    }
    case DType::f16: {
        uint16_t bits;
        std::memcpy(&bits, data, sizeof bits);
        return f16_to_f32(bits);
    }
    case DType::f64:
        return element<double>(data);
    case DType::i32:
        return element<int32_t>(data);
    case DType::i64:
        return element<int64_t>(data);
    case DType::u8:
    case DType::boolean:
        return element<uint8_t>(data);
    }
    return 0;
}

}  // namespace

HostTensor::HostTensor(DType dtype, std::vector<int64_t> shape)
    : dtype_(dtype), shape_(std::move(shape)), size_(1) {
    for (const int64_t extent : shape_) {
        size_ *= static_cast<size_t>(extent);
    }
    bytes_.assign(size_ * size_bytes(dtype_), std::byte{0xff});
}

HostTensor HostTensor::copy_of(const TensorView &tensor) {
    assert(tensor.contiguous());
    HostTensor copy(tensor.dtype, std::vector<int64_t>(tensor.shape.begin(), tensor.shape.begin() + tensor.rank));
    if (!copy.bytes_.empty()) {
        std::memcpy(copy.bytes_.data(), tensor.data, copy.bytes_.size());
    }
    return copy;
}

double HostTensor::operator[](size_t index) const {
    return load(dtype_, bytes_.data() + index * size_bytes(dtype_));
}

void HostTensor::set(size_t index, double value) {
    std::byte *to = bytes_.data() + index * size_bytes(dtype_);
    switch (dtype_) {
    case DType::f32:
        return store<float>(to, value);
    case DType::bf16:
        return store<uint16_t>(to, f32_to_bf16(static_cast<float>(value)));
    case DType::f16:
        return store<uint16_t>(to, f32_to_f16(static_cast<float>(value)));
    case DType::f64:
        return store<double>(to, value);
    case DType::i32:
        return store<int32_t>(to, value);
    case DType::i64:
        return store<int64_t>(to, value);
    case DType::u8:
    case DType::boolean:
        return store<uint8_t>(to, value);
    }
}

HostTensor HostTensor::converted(DType dtype) const {
    HostTensor result(dtype, shape_);
    for (size_t i = 0; i < size_; i++) {
        result.set(i, (*this)[i]);
    }
    return result;
}

HostTensor HostTensor::reshaped(std::vector<int64_t> shape) const {
    HostTensor result = *this;
    result.shape_ = std::move(shape);
    return result;
}

TensorView HostTensor::view() {
    return {bytes_.data(), dtype_, std::span<const int64_t>(shape_)};
}

double rms(const HostTensor &tensor) {
    double sum = 0;
    for (size_t i = 0; i < tensor.size(); i++) {
        sum += tensor[i] * tensor[i];
    }
    return tensor.size() == 0 ? 0 : std::sqrt(sum / static_cast<double>(tensor.size()));
}

}  // namespace moa::tools
