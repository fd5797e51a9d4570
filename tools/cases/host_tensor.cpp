#include "tools/cases/host_tensor.h"

#include "runtime/elements.h"

#include <cassert>
#include <cmath>
#include <cstring>
#include <utility>

namespace moa::tools {

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
    return load_element(dtype_, bytes_.data() + index * size_bytes(dtype_));
}

void HostTensor::set(size_t index, double value) {
    store_element(dtype_, bytes_.data() + index * size_bytes(dtype_), value);
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
