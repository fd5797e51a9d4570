#include "runtime/f16.h"

#include <cmath>
#include <gtest/gtest.h>
#include <limits>

namespace moa {
namespace {

TEST(F16, EveryValueComesBack) {
    for (uint32_t bits = 0; bits < 0x10000; bits++) {
        const float value = f16_to_f32(static_cast<uint16_t>(bits));
        if ((bits & 0x7fff) > 0x7c00) {
            EXPECT_TRUE(std::isnan(value)) << bits;
            EXPECT_EQ(f32_to_f16(value), bits | 0x200) << bits;  // quiet
        } else {
            ASSERT_EQ(f32_to_f16(value), bits) << value;
        }
    }
    EXPECT_EQ(f16_to_f32(0x3c00), 1.f);
    EXPECT_EQ(f16_to_f32(0x7bff), 65504.f);
    EXPECT_EQ(f16_to_f32(0x0001), 0x1p-24f);
    EXPECT_EQ(f16_to_f32(0xfc00), -std::numeric_limits<float>::infinity());
}

TEST(F16, RoundsToTheNearestAndTiesToEven) {
    const float infinity = std::numeric_limits<float>::infinity();
    for (uint16_t low = 0; low < 0x7c00; low++) {
        const uint16_t high = low + 1;
        const float middle = low == 0x7bff ? 65520.f : (f16_to_f32(low) + f16_to_f32(high)) / 2;
        ASSERT_EQ(f32_to_f16(middle), low % 2 == 0 ? low : high) << middle;
        ASSERT_EQ(f32_to_f16(std::nextafter(middle, 0.f)), low) << middle;
        ASSERT_EQ(f32_to_f16(std::nextafter(middle, infinity)), high) << middle;
        ASSERT_EQ(f32_to_f16(-std::nextafter(middle, infinity)), high | 0x8000) << middle;
    }
    EXPECT_EQ(f32_to_f16(infinity), 0x7c00);
    EXPECT_EQ(f32_to_f16(1e30f), 0x7c00);
    EXPECT_EQ(f32_to_f16(std::numeric_limits<float>::denorm_min()), 0);
}

}  // namespace
}  // namespace moa
