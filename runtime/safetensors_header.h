#pragma once

#include "moa/safetensors.h"
#include "moa/status.h"
#include "moa/tensor.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace moa::safetensors {

// The header of a file, checked: sizes do not overflow, and the tensors cover the data without hole or overlap.
struct Entry {
    std::string name;
    DType dtype = DType::f32;
    std::vector<int64_t> shape;
    uint64_t begin = 0, end = 0;  // bytes of the data
};

struct Header {
    std::vector<Entry> entries;
    Metadata metadata;
};

constexpr uint64_t kMaxHeaderBytes = 100'000'000;
constexpr std::string_view kMetadataKey = "__metadata__";

std::string_view type_name(DType dtype);  // "BF16"

// Memory stays within a small multiple of the text, whatever it says. Throws std::bad_alloc and nothing else.
Result<Header> parse_header(std::string_view text, uint64_t data_bytes);

}  // namespace moa::safetensors
