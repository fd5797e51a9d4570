#pragma once

#include "generators/codegen/kernel.h"

namespace moa {

// The k best positions of every row of scores(n, r, b), exactly: valid before masked, then the score descending, then
// the position ascending. NaN ranks below every valid score and above masked ones; -0 equals +0. Local positions plus
// offset, in ascending order (static rank 0) or best first (rank 1). Never a sort of n: a search for the k-th largest
// key, bit by bit until exactly k keys reach what is found, then compaction by tables; rank order is a stable counting
// sort of the selected alone.
struct SelectTokens {
    static constexpr int kLanes = 64;  // counters of a search step, and what the length of keys is a multiple of
    static constexpr int kSearchBits = 16;
    static constexpr int kMostBlocks = 1 << 14;  // of kLanes keys, before 16-bit counters are emptied
    static constexpr int kGroup = 8;             // positions that one table entry moves
    static constexpr int kGroupsOfChunk = 4;
    static constexpr int kDigitBits = 8;

    Halide::ImageParam scores{Halide::Float(32), 3, "scores"};
    Halide::ImageParam mask{Halide::UInt(8), 2, "mask"};  // (n, b)
    Halide::Param<int> k{"k"}, offset{"offset"};
    Halide::Var l{"l"}, n{"n"}, o{"o"}, c{"c"}, g{"g"}, j{"j"}, x{"x"}, r{"r"}, b{"b"};
    Halide::Func keys{"keys"};  // (n, r, b): int32, ordered as the rule wants

    // One step: how many halves of keys reach the candidate, and what is known then.
    struct Bit {
        Halide::RDom blocks, lanes;
        Halide::Func parts, count;  // (l, o, r, b), (r, b)
        Halide::Func found;         // (r, b): {prefix, halves above all of that prefix, whether exactly those wanted reach it}
    };
    // Upper halves of all keys first; then lower halves of those whose upper half is the one found.
    struct Level {
        Halide::Func halves;  // (n, r, b): int16
        std::vector<Bit> bits;
    };
    std::vector<Level> levels;
    Halide::Func threshold{"threshold"};  // (r, b)
    Halide::Func cutoff{"cutoff"};        // (r, b): {ties seen, the position from which on ties are not taken}

    Halide::RDom ties, group_lanes, groups, moves;
    Halide::Func marks{"marks"};        // (l, c, r, b): a bit each for kGroupsOfChunk positions taken
    Halide::Func taken{"taken"};        // (c, r, b): bits of a whole chunk
    Halide::Func begin{"begin"};        // (g, r, b): first slot of a group
    Halide::Func selected{"selected"};  // (j, r, b): k + kGroup slots

    struct Pass {
        Halide::RDom items, counters, moves;
        Halide::Func histogram, starts;  // (x, r, b)
        Halide::Func sorted;             // (x, r, b): a counter for every digit, then the positions
    };
    std::vector<Pass> passes;  // empty in ascending order
    Halide::RDom digits;

    Halide::Func indices{"indices"};

    std::vector<Halide::Argument> arguments() const;
    std::vector<Halide::Func> outputs() const;
};

SelectTokens make_select_tokens(Halide::Type storage, const Values &statics);

}  // namespace moa
