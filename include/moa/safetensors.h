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

// A safetensors file in memory. What the reference reader (the package safetensors) opens is opened, and what it refuses is
// refused: headers of more than 100 MB, offsets that do not cover the data or leave holes, overlap or contradict dtype and
// shape, dtypes that the format does not have. Every size is checked before it is used. Of a name that is there twice, the last
// counts.
class MOA_EXPORT SafeTensors {
public:
    // Code::not_found or io_error for files that cannot be read, invalid_argument for contents; the message says what the file
    // is instead, where its first bytes tell (a Git LFS pointer, an index of shards, PyTorch's or another format).
    static Result<SafeTensors> open(const std::string &path);

    // F32, F64, BF16, F16, I32, I64, U8 and BOOL with up to kMaxRank axes; `unreadable` has the others. Valid as long as any
    // copy of this object.
    const TensorMap &tensors() const;
    // Those whose names begin with the prefix, without it. None if there is no memory for their names.
    TensorMap tensors(std::string_view prefix) const;
    // Code::not_found, or unsupported with the reason for one that is there and unreadable.
    Result<TensorView> tensor(std::string_view name) const;
    const Metadata &metadata() const;

private:
    struct Impl;
    explicit SafeTensors(std::shared_ptr<const Impl> impl);
    std::shared_ptr<const Impl> impl_;
};

// Writes contiguous copies of the tensors. The file appears whole or not at all, and replaces one of that name.
MOA_EXPORT Status write_safetensors(const std::string &path, const TensorMap &tensors, const Metadata &metadata = {});

}  // namespace moa
