#pragma once

#include "moa/export.h"

#include <cstddef>
#include <span>

namespace moa {

// Asks the system to back `memory` with huge pages, before it is first written: a layer touches tens of megabytes a run.
// Only whole huge pages (kHugePageBytes) inside of it can be. Returns whether the system took the advice; false as well
// where it knows none, or the span holds no whole page. Never fails otherwise, and does not change what memory holds.
//
// Workspaces that the library allocates and its prepared weights ask for themselves; this is for a caller's workspace.
// `moa bench --suite reference --case moa_self_4096_e4` is 1.016 x as fast with it as where prctl(PR_SET_THP_DISABLE) forbids it
// (quartiles of 14 alternated pairs 1.006 and 1.025; f32, AVX-512, 2 cores; transparent_hugepage = madvise).
inline constexpr size_t kHugePageBytes = size_t{2} << 20;  // of x86-64
MOA_EXPORT bool prefer_huge_pages(std::span<std::byte> memory) noexcept;

}  // namespace moa
