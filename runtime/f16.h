#pragma once

#include <bit>
#include <cstdint>

namespace moa {

inline float f16_to_f32(uint16_t bits) {
    const uint32_t sign = static_cast<uint32_t>(bits & 0x8000) << 16, exponent = bits >> 10 & 31, fraction = bits & 0x3ff;
    if (exponent == 31) {
        return std::bit_cast<float>(sign | 0x7f800000 | fraction << 13);
    }
    if (exponent == 0) {
        const float magnitude = static_cast<float>(fraction) * 0x1p-24f;
        return std::bit_cast<float>(std::bit_cast<uint32_t>(magnitude) | sign);
    }
    return std::bit_cast<float>(sign | (exponent + 112) << 23 | fraction << 13);
}

// Rounds to nearest, ties to even; what is too large becomes infinite. A NaN keeps its sign and upper payload and turns
// quiet.
inline uint16_t f32_to_f16(float value) {
    const auto bits = std::bit_cast<uint32_t>(value);
    const uint32_t sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
    constexpr uint32_t kInfinity = 0x7f800000, kOverflow = 0x477ff000, kLeastNormal = 0x38800000;  // inf, 65520, 2^-14
    if (magnitude > kInfinity) {
        return static_cast<uint16_t>(sign | 0x7e00 | (magnitude >> 13 & 0x3ff));
    }
    if (magnitude >= kOverflow) {
        return static_cast<uint16_t>(sign | 0x7c00);
    }
    if (magnitude < kLeastNormal) {
        // In [0.5, 1) the last place of a float is 2^-24, a subnormal's: the addition rounds.
        const float sum = std::bit_cast<float>(magnitude) + 0.5f;
        return static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(sum) - 0x3f000000));
    }
    const uint32_t even = magnitude >> 13 & 1;
    return static_cast<uint16_t>(sign | ((magnitude + 0xfff + even - 0x38000000) >> 13));
}

}  // namespace moa
