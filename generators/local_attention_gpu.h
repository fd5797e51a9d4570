#pragma once

#include "generators/local_attention.h"

namespace moa {

// The operation of local_attention.h for schedules that give a tile of a window's query rows to a block of threads, in the two
// passes of attention_gpu.h.
//
// Values: head_dim (0: any), rows of a tile, keys of a block, key_tile, keys of a thread, plain = 1 without bias, gate, shared_qk and
// normalisation.
struct LocalAttentionGpu : LocalAttentionInputs {
    static constexpr int kChannels = 4;

    // row of a tile, tile of a window, position in a window, window; key of a block and block; channel; member of a group and
    // group; slot of keys of a thread
    Halide::Var i{"i"}, t{"t"}, w{"w"}, u{"u"}, key{"key"}, j{"j"}, d{"d"}, c{"c"}, g{"g"}, s{"s"};
    Halide::Var h{"h"}, b{"b"};

    struct Pass {
        Halide::Func squares;  // (key, j, t, u, h, b): of keys that are normalised; undefined if plain
        Halide::Func keys;     // (key, d, j, t, u, h, b), turned
        Halide::Func product;  // (i, key, j, t, u, h, b)
        Halide::RDom channels, square_channels;
    };
    Pass first, second;
    Halide::RDom query_channels, slot_keys, slots, mix_keys, blocks, mean_slots, seen_slots, again_keys, rows;
    Halide::Func query_squares{"query_squares"};    // (i, t, u, h, b); undefined if plain
    Halide::Func queries{"queries"};                // (i, d, t, u, h, b), turned
    Halide::Func largest{"largest"};                // (i, s, ..)
    Halide::Func maximum{"maximum"};                // (i, ..)
    Halide::Func weight{"weight"};                  // (i, key, j, ..)
    Halide::Func values{"values"};                  // (d, key, j, ..); hidden ones are 0
    Halide::Func mix{"mix"};                        // (c, g, i, j, ..)
    Halide::Func sums{"sums"};                      // (c, g, i, ..)
    Halide::Func mean{"mean"};                      // (d, u, h, b): sum of the values of all slots
    Halide::Func seen{"seen"};                      // (i, ..): whether any slot is visible
    Halide::Func again_squares, again_product;      // as those of a pass
    Halide::Func again_mix{"again_mix"};            // (d, i, ..): of visible slots
    Halide::Func quotient{"quotient"};              // (d, ..): of sums and weights
    Halide::Func again_quotient{"again_quotient"};  // (d, i, ..)
    Halide::Func of_nothing{"of_nothing"};          // (d, i, ..): of a row without a score
    Halide::Func result{"result"};                  // (d, i, ..)
    Halide::Func out{"out"};                        // (d, w, u, h, b)

    std::vector<Halide::Func> outputs() const;
};

LocalAttentionGpu make_local_attention_gpu(Halide::Type storage, const Values &statics);

}  // namespace moa
