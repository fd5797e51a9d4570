#pragma once

#include "moa/safetensors.h"
#include "moa/status.h"
#include "moa/tensor.h"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace moa::safetensors {

// The element types of the format.
struct Type {
    std::string_view name;  // "BF16"
    int bits = 0;
    std::optional<DType> dtype{};  // none: no TensorView has it
};
const Type *find_type(std::string_view name);  // null: the format has none of that name
std::string_view type_name(DType dtype);       // empty: no type of the format
std::string readable_types();                  // "F32, F64, ..."

// The header of a file, checked as the reference reader does: sizes do not overflow, and the tensors cover the data without hole
// or overlap.
struct Entry {
    std::string name;
    const Type *type = nullptr;
    std::vector<uint64_t> shape;
    uint64_t begin = 0, end = 0;  // bytes of the data

    std::string describe() const;  // "I8 [64, 64]"
};

struct Header {
    std::vector<Entry> entries;
    Metadata metadata;
};

constexpr uint64_t kMaxHeaderBytes = 100'000'000;
constexpr std::string_view kMetadataKey = "__metadata__";

// Memory stays within a small multiple of the text, whatever it says. Throws std::bad_alloc and nothing else.
Result<Header> parse_header(std::string_view text, uint64_t data_bytes);

// What a file is that is no safetensors file, by its first bytes, and what to do about it; empty if they do not tell.
std::string other_format(std::string_view first_bytes);
constexpr size_t kTellingBytes = 4096;

}  // namespace moa::safetensors
