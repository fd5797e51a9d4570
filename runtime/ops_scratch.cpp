#include "runtime/ops.h"

#include <initializer_list>

// Scratch of the rows whose schedules keep blocks of fixed sizes (schedules/{project,attention,local_attention}_cpu.cpp).
namespace moa::ops {

namespace {

constexpr int kBlockChannels = 256;  // generators/project.h
constexpr int64_t kPitchPadding = 32;
constexpr int64_t kStateRows = 4;  // beside the outputs: sum, maximum, two factors

constexpr int64_t kPadding = 64;   // what whole vectors read beyond a block's end
// Halide reuses its blocks for others, which may be larger: such a one is asked for anew while the old memory still lies under
// others.
constexpr size_t kReuse = 2;

size_t arena(const Row &row, std::initializer_list<int64_t> blocks) {
    if (row.schedule == "reference") {  // uses the heap
        return 0;
    }
    size_t bytes = 2 * Run::kBlockAlignment;
    for (const int64_t block : blocks) {
        bytes += kReuse * Run::block_bytes(static_cast<size_t>(block + kPadding));
    }
    return bytes;
}

// Of head channels: a multiple of the output tile's.
int64_t padded_width(const Row &row, int64_t head_dim) {
    const int64_t tile = row.knob("tile_channels", 1), bound = row.knob("widest", static_cast<int>(head_dim));
    return (bound + tile - 1) / tile * tile;
}

}  // namespace

size_t scratch_bytes(const Row &row, const Project & /*a*/) {
    const int64_t panel = row.knob("panel", 8), rows = row.knob("rows", 1), columns = row.knob("columns", 1);
    const int64_t element = row.knob("pair", 1) == 1 ? 4 : 2;
    const int64_t sums = 4 * panel * rows * (columns / panel + 2), packed = element * (row.knob("block", kBlockChannels) + kPitchPadding) * rows;
    return arena(row, {sums, packed, packed});
}

size_t scratch_bytes(const Row &row, const Attention &a) {
    const int64_t rows = row.knob("rows", 1), keys = row.knob("keys", 1), width = padded_width(row, a.q.extent(0));
    const int64_t state = 4 * rows * (width + kStateRows), queries = 4 * rows * width, scores = 4 * rows * keys, copied = 4 * keys * width;
    return arena(row, {state, queries, scores, scores, 4 * rows * width, copied, copied});
}

size_t scratch_bytes(const Row &row, const LocalAttention &a) {
    const int64_t rows = row.knob("rows", 1), keys = row.knob("keys", 1), width = padded_width(row, a.q.extent(0));
    const int64_t kept = row.knob("slots", static_cast<int>(keys)) + 2;
    const int64_t state = 4 * rows * (width + kStateRows), queries = 4 * rows * width, scores = 4 * rows * keys, copied = 4 * kept * width;
    return arena(row, {state, queries, queries, scores, scores, 4 * rows * width, copied, copied, slots_of(a) + 2 * keys});
}

}  // namespace moa::ops
