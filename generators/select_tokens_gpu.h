#pragma once

#include "generators/codegen/kernel.h"

namespace moa {

// The operation of select_tokens.h for schedules that give a row to a block of threads. Three histograms of ever lower digits
// of the keys find the k-th largest; a second pass notes, a bit a position, which keys are larger and which are equal; sums
// over the words of bits say where each position goes. Rank order is a bitonic sort of keys joined with positions, which all
// differ, so that any order of comparisons gives the same result.
struct SelectTokensGpu {
    static constexpr int kThreads = 1024, kUnrolled = 4;  // of a block; keys that a thread takes together
    static constexpr int kWord = 32;                      // positions of a word of bits
    static constexpr int kChunks = 256;                   // of words, whose counts are summed up in three levels:
    static constexpr int kSection = 16;                   // chunks of a section, and sections of a row

    Halide::ImageParam scores{Halide::Float(32), 3, "scores"};
    Halide::ImageParam mask{Halide::UInt(8), 2, "mask"};  // (n, b)
    Halide::Param<int> k{"k"}, offset{"offset"};
    Halide::Var n{"n"}, x{"x"}, w{"w"}, i{"i"}, t{"t"}, j{"j"}, s{"s"}, r{"r"}, b{"b"};
    Halide::Func keys{"keys"};  // (n, r, b): uint32, larger is better

    struct Level {
        int shift, bits;
        Halide::RDom items, group_bins, later_groups, group_choice, later_bins, bin_choice;
        Halide::Func taken, digit;              // (t, x, w, r, b): a key of thread t, round w, and its digit
        Halide::Func histogram;                 // (x, r, b): keys with the prefix so far, by their next digit
        Halide::Func group_sum, groups;         // (s, r, b): of kWord digits; in a register, and for others to see
        Halide::Func above_sum, above;          // (s, r, b): keys in later groups
        Halide::Func group;                     // (r, b): {group of the k-th largest, keys in later groups}
        Halide::Func bin_above_sum, bin_above;  // (x, r, b): keys above a digit of that group
        Halide::Func found;                     // (r, b): {prefix, how many keys of that prefix are wanted}
    };
    std::vector<Level> levels;

    Halide::Expr words, chunk_words;  // of a row, of a chunk
    Halide::RDom lanes, chunk_items, section_chunks, earlier_sections, earlier_chunks, word_steps, positions;
    Halide::Func bits{"bits"};                                      // (w, r, b): {larger, equal}
    Halide::Func count_sum{"count_sum"}, counts{"counts"};          // (t, r, b): {larger, equal} of a chunk
    Halide::Func section_sum{"section_sum"}, sections{"sections"};  // (s, r, b)
    Halide::Func section_base_sum{"section_base_sum"}, section_base{"section_base"};
    Halide::Func chunk_base{"chunk_base"};  // (t, r, b)
    Halide::Func base{"base"};              // (i, t, r, b): before word i of a chunk

    Halide::Expr padded;  // k, to a power of two
    Halide::RDom exchanges;
    Halide::Func step{"step"};      // (r, b): {distance, size of sorted runs}
    Halide::Func sorted{"sorted"};  // (j, side, r, b): uint64, in two halves by turns

    Halide::Func indices{"indices"};
    bool rank = false;

    std::vector<Halide::Argument> arguments() const;
    std::vector<Halide::Func> outputs() const;
};

SelectTokensGpu make_select_tokens_gpu(Halide::Type storage, const Values &statics);

}  // namespace moa
