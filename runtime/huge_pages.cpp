#include "moa/huge_pages.h"

#include <cstdint>

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace moa {

#ifdef __linux__
bool prefer_huge_pages(std::span<std::byte> memory) noexcept {
    const auto begin = reinterpret_cast<uintptr_t>(memory.data()), end = begin + memory.size();
    const uintptr_t first = (begin + kHugePageBytes - 1) / kHugePageBytes * kHugePageBytes, last = end / kHugePageBytes * kHugePageBytes;
    return first < last && madvise(reinterpret_cast<void *>(first), last - first, MADV_HUGEPAGE) == 0;
}
#else
bool prefer_huge_pages(std::span<std::byte> /*memory*/) noexcept {
    return false;
}
#endif

}  // namespace moa
