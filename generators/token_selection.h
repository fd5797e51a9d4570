#pragma once

#include "generators/warps.h"

namespace moa {

// The k best positions of rows of scores(n, r, b), in the order of select_tokens.h, for schedules that give a row of up to
// kMostPositions to a block of 32 warps. Three histograms of ever lower digits of the keys find the k-th largest; a bit a position
// then says which keys are larger and which are equal, a word of bits a thread; sums over the words before say where each
// position goes. Sums over threads are exchanges within warps and one meeting of all warps.
struct TokenSelection {
    static constexpr int kWord = 32;  // positions of a word of bits: those of a warp
    static constexpr int kMostPositions = Warps::kThreads * kWord;
    static constexpr int kUnrolled = 4;  // keys that a thread takes together

    struct Level {
        int bits = 0, bins = 0;  // of a digit; digits of a thread
        Halide::RDom items, own_bins, choice;
        Halide::Func taken, digit;         // (x, item, w, r, b): a key of thread x, round w, and its digit
        Halide::Func histogram;            // (x, r, b): keys with the prefix so far, by their next digit
        Halide::Func own;                  // (l, w, r, b): keys of a thread's digits: the first thread has the largest
        std::vector<Halide::Func> scan;    // (l, w, r, b)
        Halide::Func upto;                 // (l, w, r, b): of the warp's lanes up to this
        Halide::Func earlier;              // (l, w, r, b): all of warp l, if it comes before warp w
        std::vector<Halide::Func> before;  // (l, w, r, b): of all warps before w
        Halide::Func found;                // (x, r, b) at x = 0: {prefix, how many keys of that prefix are wanted}
    };

    explicit TokenSelection(const Values &values)
        : warps(values) {
    }

    Warps warps;
    Halide::ImageParam scores{Halide::Float(32), 3, "scores"};
    Halide::ImageParam mask{Halide::UInt(8), 2, "mask"};  // (n, b)
    Halide::Param<int> k{"k"};
    Halide::Var n{"n"}, x{"x"}, item{"item"};
    Halide::Func keys{"keys"};  // (n, r, b): uint32, larger is better
    std::vector<Level> levels;

    Halide::Expr words;  // of a row
    Halide::RDom lanes;
    Halide::Func bits{"bits"};                      // (x, r, b): {larger, equal} of word x
    Halide::Func own{"own"};                        // (l, w, r, b): {larger, equal} in the thread's word, how many
    std::vector<Halide::Func> scan;                 // (l, w, r, b)
    Halide::Func upto{"upto"}, earlier{"earlier"};  // as of levels
    std::vector<Halide::Func> before;
    Halide::Func base{"base"};  // (l, w, r, b): {larger, equal} before the thread's word

    struct Place {
        Halide::Expr selected, slot;
    };
    // Of position word * kWord + lane.
    Place place(const Halide::Expr &lane, const Halide::Expr &word) const;
};

TokenSelection make_token_selection(const Values &values);

}  // namespace moa
