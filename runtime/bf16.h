#pragma once

#include <bit>
#include <cstdint>

namespace moa {

inline float bf16_to_f32(uint16_t bits) {
    return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}

// Rounds to nearest, ties to even. A NaN keeps its sign and upper payload and turns quiet: rounding could
// carry it into an infinity.
inline uint16_t f32_to_bf16(float value) {
    const auto bits = std::bit_cast<uint32_t>(value);
    constexpr uint32_t kInfinity = 0x7f800000, kQuiet = 0x40;
    if ((bits & 0x7fffffff) > kInfinity) {
        return static_cast<uint16_t>((bits >> 16) | kQuiet);
    }
    const uint32_t even = (bits >> 16) & 1;
    return static_cast<uint16_t>((bits + 0x7fff + even) >> 16);
}

}  // namespace moa
