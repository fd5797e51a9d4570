#include "runtime/ops.h"

#include <initializer_list>

namespace moa::ops {

namespace {

constexpr int64_t kPadding = 64;  // bytes that whole vectors read beyond a block's end

// What a thread's arena must hold for blocks of so many bytes, each of them up to `times` over, and what is lost to its own
// alignment. Rows of schedule "reference" use the heap instead.
size_t arena(const Row &row, std::initializer_list<int64_t> blocks, size_t times = 1) {
    if (row.schedule == "reference") {
        return 0;
    }
    size_t bytes = 2 * Run::kBlockAlignment;
    for (const int64_t block : blocks) {
        bytes += times * Run::block_bytes(static_cast<size_t>(block + kPadding));
    }
    return bytes;
}

// Kernels round the lengths of what they keep up to whole vectors, or whole chunks of 64.
int64_t padded(int64_t elements) {
    return elements + 64;
}

}  // namespace

// A factor for every routing token.
size_t scratch_bytes(const Row &row, const RouterScores &a) {
    return arena(row, {4 * padded(a.tokens.extent(1))});
}
size_t scratch_bytes(const Row & /*row*/, const RowStatistics & /*a*/) {
    return 0;
}
// The masked row, which every iteration reads.
size_t scratch_bytes(const Row &row, const CoordinateDescent &a) {
    return arena(row, {4 * padded(a.scores.extent(0))});
}
size_t scratch_bytes(const Row & /*row*/, const CoordinateDescentStep & /*a*/) {
    return 0;
}
size_t scratch_bytes(const Row & /*row*/, const CoordinateDescentFinish & /*a*/) {
    return 0;
}
// Ordered keys and both halves of them, what is taken of every 32 positions, the first slot of every 8, what is selected,
// and (in rank order) four passes of a counting sort.
size_t scratch_bytes(const Row &row, const SelectTokens &a) {
    const int64_t n = a.scores.extent(0), halves = 2 * padded(n), sorted = 4 * padded(256 + a.k);
    return arena(row, {4 * padded(n), halves, halves, 4 * padded(n / 32), 4 * padded(n / 8), 4 * padded(a.k), sorted, sorted, sorted, sorted});
}
size_t scratch_bytes(const Row & /*row*/, const RouteSlots & /*a*/) {
    return 0;
}
size_t scratch_bytes(const Row & /*row*/, const SelectSlots & /*a*/) {
    return 0;
}
size_t scratch_bytes(const Row & /*row*/, const CopyIndices & /*a*/) {
    return 0;
}
size_t scratch_bytes(const Row & /*row*/, const Combine & /*a*/) {
    return 0;
}
size_t scratch_bytes(const Row & /*row*/, const RotaryTable & /*a*/) {
    return 0;
}

// The rest keep blocks of fixed sizes (schedules/{project,attention,local_attention}_cpu.cpp).
namespace {

// Halide reuses a block for others, which may be larger: such a one is asked for anew while the old memory still lies under
// others.
constexpr size_t kReuse = 2;
constexpr int kBlockChannels = 256;  // generators/project.h
constexpr int64_t kPitchPadding = 32;
constexpr int64_t kStateRows = 4;  // beside the outputs: sum, maximum, two factors

// Of head channels: a multiple of the output tile's.
int64_t padded_width(const Row &row, int64_t head_dim) {
    const int64_t tile = row.knob("tile_channels", 1), bound = row.knob("widest", static_cast<int>(head_dim));
    return (bound + tile - 1) / tile * tile;
}

}  // namespace

size_t scratch_bytes(const Row &row, const Project &a) {
    const int64_t panel = row.knob("panel", 8), rows = row.knob("rows", 1), width = padded(a.out.extent(0));
    const bool wide = row.knob("wide", 0) != 0;  // a task is a head, of any width
    const int64_t columns = wide ? width : row.knob("columns", 1);
    const int64_t element = row.knob("pair", 1) == 1 ? 4 : 2;
    const int64_t channels = row.knob("whole", 0) != 0 ? row.knob("widest", 0) : row.knob("block", kBlockChannels);
    const int64_t sums = 4 * panel * rows * (columns / panel + 2), packed = element * (channels + kPitchPadding) * rows, of_head = wide ? 4 * width : 0;
    return arena(row, {sums, packed, packed, of_head, of_head, of_head}, kReuse);
}

size_t scratch_bytes(const Row &row, const Attention &a) {
    const int64_t rows = row.knob("rows", 1), keys = row.knob("keys", 1), width = padded_width(row, a.q.extent(0));
    const int64_t tiles = row.knob("row_tiles", 1), scores = 4 * rows * keys, outputs = 4 * rows * width, copied = 4 * keys * width;
    const int64_t state = tiles * 4 * rows * (width + kStateRows), queries = tiles * outputs;
    return arena(row, {state, queries, scores, scores, outputs, copied, copied}, kReuse);
}

size_t scratch_bytes(const Row &row, const LocalAttention &a) {
    const int64_t rows = row.knob("rows", 1), keys = row.knob("keys", 1), width = padded_width(row, a.q.extent(0));
    const int64_t kept = row.knob("slots", static_cast<int>(keys)) + 2;
    const int64_t state = 4 * rows * (width + kStateRows), queries = 4 * rows * width, scores = 4 * rows * keys, copied = 4 * kept * width;
    return arena(row, {state, queries, queries, scores, scores, 4 * rows * width, copied, copied, slots_of(a) + 2 * keys}, kReuse);
}

}  // namespace moa::ops
