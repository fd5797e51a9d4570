#include "moa/huge_pages.h"

#include <cstddef>
#include <cstdint>
#include <gtest/gtest.h>
#include <span>
#include <vector>

namespace moa {
namespace {

TEST(HugePages, TakesOnlySpansWithAWholePage) {
    EXPECT_FALSE(prefer_huge_pages({}));
    std::vector<std::byte> small(4096);
    EXPECT_FALSE(prefer_huge_pages(small));
    std::vector<std::byte> nearly(2 * kHugePageBytes);
    const auto address = reinterpret_cast<uintptr_t>(nearly.data());
    const size_t to_page = (kHugePageBytes - address % kHugePageBytes) % kHugePageBytes;
    EXPECT_FALSE(prefer_huge_pages(std::span(nearly).subspan(to_page, kHugePageBytes - 1)));
}

TEST(HugePages, LeavesContentsAlone) {
    std::vector<std::byte> memory(3 * kHugePageBytes + 123, std::byte{42});
    prefer_huge_pages(memory);
    for (size_t i = 0; i < memory.size(); i += 1021) {
        ASSERT_EQ(memory[i], std::byte{42}) << i;
    }
    EXPECT_EQ(memory.back(), std::byte{42});
}

}  // namespace
}  // namespace moa
