#pragma once

#include "moa/export.h"
#include "moa/status.h"
#include "moa/weights.h"

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>

namespace moa {

using Metadata = std::map<std::string, std::string, std::less<>>;

// A safetensors file in memory. Files are taken for hostile: every size is checked before it is used (header of at most
// 100 MB, offsets that cover the data without hole or overlap and agree with dtype and shape, no name twice).
class MOA_EXPORT SafeTensors {
public:
    // Code::not_found or io_error for files that cannot be read, invalid_argument for contents.
    static Result<SafeTensors> open(const std::string &path);

    // Valid as long as any copy of this object. Types: F32, F64, BF16, I32, I64, U8, BOOL.
    const TensorMap &tensors() const;
    // Those whose names begin with the prefix, without it.
    TensorMap tensors(std::string_view prefix) const;
    const Metadata &metadata() const;

private:
    struct Impl;
    explicit SafeTensors(std::shared_ptr<const Impl> impl);
    std::shared_ptr<const Impl> impl_;
};

// Writes contiguous copies of the tensors. The file appears whole or not at all, and replaces one of that name.
MOA_EXPORT Status write_safetensors(const std::string &path, const TensorMap &tensors, const Metadata &metadata = {});

}  // namespace moa
