#include "runtime/packing.h"

#include "runtime/bf16.h"
#include "runtime/elements.h"
#include "runtime/f16.h"

#include <algorithm>

namespace moa {

namespace {

struct Panels {
    Panels(const PanelFormat &format, int64_t out, int64_t in)
        : width(static_cast<int64_t>(format.panel) * format.pair),
          groups(((in + format.pair - 1) / format.pair + format.align - 1) / format.align * format.align), pieces(format.pieces), count((out + format.panel - 1) / format.panel) {
    }

    int64_t elements() const {
        return width * groups * pieces * count;
    }

    int64_t width, groups, pieces, count;
};

// The bf16 number nearest to `rest`, which it is taken off.
uint16_t take_bf16(float &rest) {
    const uint16_t piece = f32_to_bf16(rest);
    rest -= bf16_to_f32(piece);
    return piece;
}

template<class T, class Convert>
void pack(const PanelFormat &format, const float *weights, int64_t out, int64_t in, int64_t experts,
          T *packed, Convert convert) {
    const Panels panels(format, out, in);
    for (int64_t row = 0; row < experts * panels.count; row++) {
        const int64_t expert = row / panels.count, first = row % panels.count * format.panel;
        const int64_t piece_size = panels.width * panels.groups;
        T *panel = packed + row * piece_size * panels.pieces;
        std::fill_n(panel, piece_size * panels.pieces, T{});
        for (int64_t o = 0; o < std::min<int64_t>(format.panel, out - first); o++) {
            const float *from = weights + (expert * out + first + o) * in;
            for (int64_t c = 0; c < in; c++) {
                T *place = panel + c / format.pair * panels.width + o * format.pair + c % format.pair;
                float rest = from[c];
                for (int64_t piece = 0; piece < panels.pieces; piece++) {
                    place[piece * piece_size] = convert(rest);
                }
            }
        }
    }
}

}  // namespace

PanelFormat format_of(const Row &row) {
    constexpr int kPlainChannels = 64;
    if (row.device == DeviceType::cuda && row.knob("panel", 0) == 0) {
        return {.panel = 1, .pair = 1, .dtype = storage_of(row.dtype), .align = kPlainChannels};
    }
    const int pair = row.knob("pair", 1);
    constexpr int kTileChannels = 32;  // generators/project.h
    return {.panel = row.knob("panel", 8),
            .pair = pair,
            .dtype = pair == 1 ? DType::f32 : DType::bf16,
            .align = row.knob("tiles", 0) != 0 ? kTileChannels / pair : 1,
            .pieces = row.knob("pieces", 1)};
}

size_t packed_bytes(const PanelFormat &format, int64_t out, int64_t in, int64_t experts) {
    return static_cast<size_t>(Panels(format, out, in).elements() * experts) * size_bytes(format.dtype);
}

View packed_view(const PanelFormat &format, void *packed, int64_t out, int64_t in, int64_t experts) {
    const Panels panels(format, out, in);
    return View::dense(packed, format.dtype, {panels.width, panels.groups * panels.pieces, panels.count, experts});
}

void pack_panels(const PanelFormat &format, const float *weights, int64_t out, int64_t in, int64_t experts,
                 void *packed) {
    if (format.dtype == DType::bf16) {
        pack(format, weights, out, in, experts, static_cast<uint16_t *>(packed), take_bf16);
    } else if (format.dtype == DType::f16) {
        pack(format, weights, out, in, experts, static_cast<uint16_t *>(packed), f32_to_f16);
    } else {
        pack(format, weights, out, in, experts, static_cast<float *>(packed),
             [](float weight) { return weight; });
    }
}

}  // namespace moa
