#pragma once

#include "generators/attention.h"

#include <array>

namespace moa {

// The operation of attention.h for schedules that give a tile of query rows to a block of threads. Two passes over the keys: the
// first finds the largest score of every row, the second weighs the values. So no sum has to be rescaled, all of them are plain
// reductions, and threads need not agree on anything between blocks of keys; the scores are computed twice for it.
//
// Values: head_dim (0: any), rows of a tile, keys of a block, key_tile, keys of a thread.
struct AttentionGpu : AttentionInputs {
    static constexpr int kChannels = 4;  // of a group, beside which the sum of the weights is kept as a fifth

    // row and tile; key of a block and block; channel; member of a group and group; slot of keys
    Halide::Var i{"i"}, t{"t"}, key{"key"}, j{"j"}, d{"d"}, u{"u"}, g{"g"}, s{"s"}, y{"y"};
    Halide::Var h{"h"}, e{"e"}, b{"b"};

    // Scores of a block of keys; each pass has its own.
    struct Pass {
        Halide::Func keys;     // (key, d, j, h, e, b)
        Halide::Func product;  // (i, key, j, t, h, e, b)
        Halide::RDom channels;
    };
    Pass first, second;
    Halide::RDom null_channels, slot_keys, slots, mix_keys, blocks, seen_keys, again_keys, again_channels;
    Halide::Func queries{"queries"};        // (i, d, t, h, e, b), scaled
    Halide::Func null_score{"null_score"};  // (i, ..)
    Halide::Func largest{"largest"};        // (i, s, ..): score among every so many keys
    Halide::Func maximum{"maximum"};        // (i, ..)
    Halide::Func weight{"weight"};          // (i, key, j, ..)
    Halide::Func values{"values"};          // (d, key, j, h, e, b)
    Halide::Func mix{"mix"};                // (u, g, i, j, ..): of a block
    Halide::Func sums{"sums"};              // (u, g, i, ..)
    // What is computed again, of visible keys: (d, y, h, e, b), and of products (y, key, h, e, b).
    Halide::Func seen{"seen"};  // whether any key is visible
    Halide::Func again_null{"again_null"}, again_most{"again_most"}, again_sum{"again_sum"}, again_mix{"again_mix"};
    std::array<Halide::Func, 3> again_products{Halide::Func("again_first"), Halide::Func("again_second"), Halide::Func("again_third")};
    Halide::Func quotient{"quotient"};              // (d, ..): of sums and weights
    Halide::Func again_quotient{"again_quotient"};  // (d, y, ..)
    Halide::Func result{"result"};                  // (d, y, h, e, b)
    Halide::Func out{"out"};

    std::vector<Halide::Func> outputs() const;
};

AttentionGpu make_attention_gpu(Halide::Type storage, const Values &statics);

}  // namespace moa
