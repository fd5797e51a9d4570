#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace moa::ops {

// What the views of absent arguments point to (zero_f32 and its like): one block, so that a GPU can have a copy of it.
// A launch there moves pointers into this block to that copy.
struct Absent {
    static constexpr int64_t kZeros = 4096;
    alignas(64) std::array<float, kZeros> zeros{};
    float one = 1;
    uint8_t one_byte = 1;

    bool holds(const void *memory) const {
        const auto *at = static_cast<const std::byte *>(memory), *begin = reinterpret_cast<const std::byte *>(this);
        return at >= begin && at < begin + sizeof *this;
    }
};

extern const Absent kAbsent;

}  // namespace moa::ops
