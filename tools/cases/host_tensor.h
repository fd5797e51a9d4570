#pragma once

#include "moa/tensor.h"

#include <cstddef>
#include <cstdint>
#include <vector>

namespace moa::tools {

// A dense tensor with its memory. Elements are read and written as doubles, which hold every value of the dtypes used.
class HostTensor {
public:
    HostTensor() = default;
    // Every byte 0xff: NaN, or no valid index, for whoever reads what nobody wrote.
    HostTensor(DType dtype, std::vector<int64_t> shape);
    static HostTensor copy_of(const TensorView &tensor);

    DType dtype() const {
        return dtype_;
    }
    const std::vector<int64_t> &shape() const {
        return shape_;
    }
    size_t size() const {
        return size_;
    }
    double operator[](size_t index) const;
    void set(size_t index, double value);

    HostTensor converted(DType dtype) const;
    HostTensor reshaped(std::vector<int64_t> shape) const;  // as many elements
    TensorView view();

private:
    DType dtype_ = DType::f32;
    std::vector<int64_t> shape_{0};
    size_t size_ = 0;
    std::vector<std::byte> bytes_;
};

// Root of the mean square; 0 without elements.
double rms(const HostTensor &tensor);

}  // namespace moa::tools
