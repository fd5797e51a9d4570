#pragma once

#include "moa/rows.h"
#include "runtime/view.h"

#include <cstddef>
#include <cstdint>
#include <tuple>

namespace moa {

// How a row of `project` wants its weights: panels of `panel` output channels, zero padded, input channels interleaved
// in groups of `pair` (2 for rows that multiply pairs of bf16), panels in f32, bf16 or f16. Rows for GPUs that name no panel
// want plain rows, weights(0, c, o, e), in their own dtype, with zeros up to a multiple of 64 input channels: panels of 1.
struct PanelFormat {
    int panel = 16;
    int pair = 1;
    DType dtype = DType::f32;
    int align = 1;   // groups come in multiples of so many, the last ones zero: rows of matrix tiles take whole tiles
    int pieces = 1;  // 3: three bf16 pieces of every weight, whose groups follow each other, the largest first

    // What weights are rounded to: three pieces hold all of an f32 number.
    DType precision() const {
        return pieces == 1 ? dtype : DType::f32;
    }

    friend bool operator==(const PanelFormat &, const PanelFormat &) = default;
    friend bool operator<(const PanelFormat &a, const PanelFormat &b) {
        return std::tie(a.panel, a.pair, a.dtype, a.align, a.pieces) < std::tie(b.panel, b.pair, b.dtype, b.align, b.pieces);
    }
};

PanelFormat format_of(const Row &row);
size_t packed_bytes(const PanelFormat &format, int64_t out, int64_t in, int64_t experts);

// The kernel's view of packed panels, experts outermost.
View packed_view(const PanelFormat &format, void *packed, int64_t out, int64_t in, int64_t experts);

// weights: row-major [experts, out, in]; bf16 and f16 panels are rounded to nearest even.
void pack_panels(const PanelFormat &format, const float *weights, int64_t out, int64_t in, int64_t experts, void *packed);

}  // namespace moa
