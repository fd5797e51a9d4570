#include "generators/select_tokens.h"

#include <limits>

namespace moa {

using namespace Halide;

namespace {

constexpr int kPaddingKey = std::numeric_limits<int>::min();
constexpr int kMaskedKey = kPaddingKey + 1;
constexpr int kNanKey = kPaddingKey + 2;
constexpr int kHalf = 1 << (SelectTokens::kSearchBits - 1);
constexpr int kDigits = 1 << SelectTokens::kDigitBits;

// int32 whose order is that of the floats; looked at as bits throughout, since Halide compiles for finite values.
Expr ordered_key(const Expr &score) {
    const Expr bits = reinterpret<int>(score);
    const Expr magnitude = bits & 0x7fffffff;
    const Expr ordered = select(magnitude == 0, 0, bits < 0, bits ^ 0x7fffffff, bits);
    return select(magnitude > 0x7f800000, kNanKey, ordered);
}

Expr blocks_of(const SelectTokens &op, int width) {
    return (op.scores.dim(0).extent() + width - 1) / width;
}

void define_keys(SelectTokens &op) {
    const Expr extent = op.scores.dim(0).extent();
    op.scores.dim(0).set_min(0);
    op.mask.dim(0).set_bounds(0, extent).set_stride(Expr());
    const Expr inside = min(likely(op.n), extent - 1);
    const Expr key = select(op.mask(inside, op.b) != 0, ordered_key(op.scores(inside, op.r, op.b)), kMaskedKey);
    op.keys(op.n, op.r, op.b) = select(likely(op.n) < extent, key, kPaddingKey);
}

// What a search step knows.
enum Known { kPrefix,
             kAbove,
             kSettled };

Expr known(const SelectTokens &op, const Func &found, Known what) {
    return found(op.r, op.b)[what];
}

Expr is_settled(const SelectTokens &op, const Func &found) {
    return known(op, found, kSettled) != 0;
}

// A step of the search for the largest prefix that at least `wanted` halves reach. Nothing is left to do once exactly as
// many reach it: whatever the bits after it are, it tells them from all others. (The bound of the loop says so, not a
// condition inside.)
SelectTokens::Bit make_bit(const SelectTokens &op, const Func &halves, const Func &before, const Expr &wanted, int bit, const std::string &name) {
    constexpr int kLanes = SelectTokens::kLanes, kMost = SelectTokens::kMostBlocks;
    const Expr blocks = blocks_of(op, kLanes);
    SelectTokens::Bit step{RDom(0, kMost, "blocks_" + name), RDom(0, kLanes, 0, (blocks + kMost - 1) / kMost, "lanes_" + name),
                           Func("parts_" + name), Func("count_" + name), Func("found_" + name)};
    const Expr settled = is_settled(op, before), prefix = known(op, before, kPrefix), candidate = prefix + (1 << bit);
    const Expr block = op.o * kMost + step.blocks;
    step.blocks.where(block < select(settled, 0, blocks));
    const Expr half = halves(unsafe_promise_clamped(block, 0, blocks - 1) * kLanes + op.l, op.r, op.b);
    step.parts(op.l, op.o, op.r, op.b) = cast<int16_t>(0);
    step.parts(op.l, op.o, op.r, op.b) += select(half > cast<int16_t>(candidate - kHalf - 1), cast<int16_t>(1), cast<int16_t>(0));
    step.count(op.r, op.b) = 0;
    step.count(op.r, op.b) += cast<int>(step.parts(step.lanes.x, step.lanes.y, op.r, op.b));
    const Expr count = step.count(op.r, op.b), reached = count >= wanted;
    step.found(op.r, op.b) = {select(!settled && reached, candidate, prefix), select(settled || reached, known(op, before, kAbove), count),
                              select(settled || count == wanted, 1, 0)};
    return step;
}

// Searches halves for the `wanted`-th largest, unless it is settled already; returns what the last step found.
Func search(SelectTokens &op, const Expr &half, const Expr &wanted, const Expr &settled) {
    const std::string name = std::to_string(op.levels.size());
    SelectTokens::Level level{Func("halves_" + name), {}};
    level.halves(op.n, op.r, op.b) = cast<int16_t>(half);
    Func found("found_" + name);
    found(op.r, op.b) = {0, 0, select(settled, 1, 0)};
    for (int bit = SelectTokens::kSearchBits - 1; bit >= 0; bit--) {
        level.bits.push_back(make_bit(op, level.halves, found, wanted, bit, name + "_" + std::to_string(bit)));
        found = level.bits.back().found;
    }
    op.levels.push_back(level);
    return found;
}

// The k-th largest key, or a number that exactly k keys reach. Where more keys than are wanted equal it, those at the first
// positions are taken.
void define_threshold(SelectTokens &op) {
    const Expr key = op.keys(op.n, op.r, op.b);
    const Func upper = search(op, key >> 16, op.k, Internal::const_false());
    const Expr of_upper = key >> 16 == known(op, upper, kPrefix) - kHalf, rest = op.k - known(op, upper, kAbove);
    const Func lower = search(op, select(of_upper, (key & 0xffff) - kHalf, -kHalf), rest, is_settled(op, upper));
    // Unsigned, since int32 must not overflow.
    const Expr prefix = cast<uint32_t>(known(op, upper, kPrefix)) << 16 | cast<uint32_t>(known(op, lower, kPrefix));
    op.threshold(op.r, op.b) = reinterpret<int>(prefix ^ (cast<uint32_t>(1) << 31));

    const Expr positions = op.scores.dim(0).extent(), settled = is_settled(op, lower);
    op.ties = RDom(0, positions, "ties");
    op.ties.where(op.ties < select(settled, 0, positions));
    op.cutoff(op.r, op.b) = {0, select(settled, std::numeric_limits<int>::max(), 0)};
    const Expr seen = op.cutoff(op.r, op.b)[0], wanted = rest - known(op, lower, kAbove);
    const Expr tie = op.keys(op.ties, op.r, op.b) == op.threshold(op.r, op.b);
    op.cutoff(op.r, op.b) = {seen + select(tie, 1, 0), select(tie && seen < wanted, op.ties + 1, op.cutoff(op.r, op.b)[1])};
}

// Of every byte: its set bits in ascending order, and how many they are.
struct Tables {
    Buffer<uint8_t> order{SelectTokens::kGroup, 256, "order"}, count{256, "count"};

    Tables() {
        for (int byte = 0; byte < 256; byte++) {
            int set = 0;
            for (int bit = 0; bit < SelectTokens::kGroup; bit++) {
                order(bit, byte) = 0;
                if ((byte >> bit & 1) != 0) {
                    order(set++, byte) = static_cast<uint8_t>(bit);
                }
            }
            count(byte) = static_cast<uint8_t>(set);
        }
    }
};

// Whole groups are written, each over what the one before it wrote too much.
void define_compaction(SelectTokens &op) {
    constexpr int kGroup = SelectTokens::kGroup, kGroupsOfChunk = SelectTokens::kGroupsOfChunk;
    Tables tables;
    Expr bits = cast<uint32_t>(0);
    for (int group = 0; group < kGroupsOfChunk; group++) {
        const Expr in_chunk = group * kGroup + op.l, position = op.c * (kGroup * kGroupsOfChunk) + in_chunk;
        const Expr floor = op.threshold(op.r, op.b) - select(position < op.cutoff(op.r, op.b)[1], 1, 0);
        bits = bits | select(op.keys(position, op.r, op.b) > floor, cast<uint32_t>(1) << in_chunk, cast<uint32_t>(0));
    }
    op.marks(op.l, op.c, op.r, op.b) = bits;
    op.group_lanes = RDom(0, kGroup, "group_lanes");
    op.taken(op.c, op.r, op.b) = cast<uint32_t>(0);
    op.taken(op.c, op.r, op.b) += op.marks(op.group_lanes, op.c, op.r, op.b);

    const auto group_bits = [&](const Expr &group) {
        return cast<uint8_t>(op.taken(group / kGroupsOfChunk, op.r, op.b) >> (group % kGroupsOfChunk * kGroup));
    };
    const Expr groups = blocks_of(op, kGroup);
    op.groups = RDom(1, max(groups - 1, 0), "groups");
    op.begin(op.g, op.r, op.b) = 0;
    op.begin(op.groups, op.r, op.b) = op.begin(op.groups - 1, op.r, op.b) + cast<int>(tables.count(group_bits(op.groups - 1)));

    op.moves = RDom(0, kGroup, 0, groups, "moves");
    const Expr to = unsafe_promise_clamped(op.begin(op.moves.y, op.r, op.b), 0, op.k);
    op.selected(op.j, op.r, op.b) = undef<int>();
    op.selected(to + op.moves.x, op.r, op.b) = op.moves.y * kGroup + cast<int>(tables.order(op.moves.x, group_bits(op.moves.y)));
}

// Least significant digit first, larger digits before smaller ones: stable, so equal keys stay in ascending order.
void define_ranking(SelectTokens &op) {
    const Expr last = op.scores.dim(0).extent() - 1;
    const auto before_pass = [&](const Expr &j) {
        return op.passes.empty() ? op.selected(j, op.r, op.b) : op.passes.back().sorted(kDigits + j, op.r, op.b);
    };
    for (int shift = 0; shift < 32; shift += SelectTokens::kDigitBits) {
        const std::string number = std::to_string(shift);
        const auto digit = [&](const Expr &position) {
            const Expr key = op.keys(unsafe_promise_clamped(position, 0, last), op.r, op.b);
            // Larger keys have smaller digits; the sign bit of the last one is the other way round.
            return cast<int>(cast<uint8_t>((~key >> shift) ^ (shift == 24 ? 0x80 : 0)));
        };
        SelectTokens::Pass pass{RDom(0, op.k, "items_" + number), RDom(0, kDigits, "counters_" + number), RDom(0, 2, 0, op.k, "moves_" + number),
                                Func("histogram_" + number), Func("starts_" + number), Func("sorted_" + number)};
        pass.histogram(op.x, op.r, op.b) = 0;
        pass.histogram(digit(op.selected(pass.items, op.r, op.b)), op.r, op.b) += 1;
        pass.starts(op.x, op.r, op.b) = 0;
        pass.starts(op.digits, op.r, op.b) = pass.starts(op.digits - 1, op.r, op.b) + pass.histogram(op.digits - 1, op.r, op.b);

        const Expr moved = before_pass(pass.moves.y), counter = digit(moved);
        pass.sorted(op.x, op.r, op.b) = undef<int>();
        pass.sorted(pass.counters, op.r, op.b) = pass.starts(pass.counters, op.r, op.b);
        const Expr slot = kDigits + clamp(pass.sorted(counter, op.r, op.b), 0, op.k - 1);
        const Expr move = pass.moves.x == 0;
        pass.sorted(select(move, slot, counter), op.r, op.b) = select(move, moved, pass.sorted(counter, op.r, op.b) + 1);
        op.passes.push_back(pass);
    }
}

}  // namespace

SelectTokens make_select_tokens(Type, const Values &statics) {
    SelectTokens op;
    op.digits = RDom(1, kDigits - 1, "digits");
    define_keys(op);
    define_threshold(op);
    define_compaction(op);
    if (statics("rank") != 0) {
        define_ranking(op);
        op.indices(op.j, op.r, op.b) = op.passes.back().sorted(kDigits + op.j, op.r, op.b) + op.offset;
    } else {
        op.indices(op.j, op.r, op.b) = op.selected(op.j, op.r, op.b) + op.offset;
    }
    auto out = op.indices.output_buffer();
    out.dim(0).set_bounds(0, op.k);
    out.dim(1).set_bounds(0, op.scores.dim(1).extent());
    out.dim(2).set_bounds(0, op.scores.dim(2).extent());
    return op;
}

std::vector<Argument> SelectTokens::arguments() const {
    return {scores, mask, k, offset};
}

std::vector<Func> SelectTokens::outputs() const {
    return {indices};
}

MOA_OPERATION(SelectTokens, "select_tokens", make_select_tokens);

}  // namespace moa
