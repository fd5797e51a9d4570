#pragma once

#include "moa/status.h"
#include "moa/tensor.h"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

// One check of tensors that come from outside: arguments of runs, and weights of layers.
namespace moa {

struct WantedTensor {
    std::string_view owner;  // "the plan"
    std::string_view name;
    std::span<const DType> dtypes;  // any of them; boolean and u8 are one
    std::span<const int64_t> shape;
    Device device;
};

// Device, dtype, rank and shape: the message says what differs.
Status check_kind(const WantedTensor &wanted, const TensorView &given);
// Of a tensor of the right kind: that it has memory, aligned for its elements, and strides from 0 on that stay within what
// addresses can say. Tensors without elements need no memory.
Status check_memory(std::string_view name, const TensorView &given);
// Of a tensor whose memory is right: what kernels can index.
Status check_strides(std::string_view name, const TensorView &given, bool output);

bool is_mask(DType dtype);

// The same tensor with ordinary strides where an axis of one element has others: they lead nowhere.
TensorView with_plain_strides(const TensorView &given);

// The memory between a tensor's first and last element; empty without elements.
std::span<const std::byte> memory_of(const TensorView &tensor);
// Whether two elements of the tensor may be one: false if each stride is at least as long as what the smaller ones reach.
bool may_overlap_itself(const TensorView &tensor);
// Whether tensors may share a byte. Exact for blocks apart and for columns of one matrix; else true in doubt.
bool may_overlap(const TensorView &one, const TensorView &two);

}  // namespace moa
