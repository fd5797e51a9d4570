#pragma once

#include "generators/codegen/kernel.h"

namespace moa {

// The operation of local_attention.h for schedules that give a tile of a window's query rows to a block of threads, in the two
// passes of attention_gpu.h.
//
// Values: head_dim (0: any), rows of a tile, keys of a block, key_tile, keys of a thread, plain = 1 without bias, gate, shared_qk and
// normalisation.
struct LocalAttentionGpu {
    static constexpr int kChannels = 4;

    Halide::ImageParam q, k, v;
    Halide::ImageParam mask{Halide::UInt(8), 2, "mask"};
    Halide::ImageParam q_cos{Halide::Float(32), 2, "q_cos"}, q_sin{Halide::Float(32), 2, "q_sin"};
    Halide::ImageParam k_cos{Halide::Float(32), 2, "k_cos"}, k_sin{Halide::Float(32), 2, "k_sin"};
    Halide::ImageParam q_gain{Halide::Float(32), 1, "q_gain"}, k_gain{Halide::Float(32), 1, "k_gain"};
    Halide::ImageParam bias{Halide::Float(32), 3, "bias"};
    Halide::ImageParam gate;
    Halide::Param<int> window{"window"}, look_backward{"look_backward"}, look_forward{"look_forward"};
    Halide::Param<int> causal{"causal"}, exact{"exact"}, shared_qk{"shared_qk"}, normalize_q{"normalize_q"}, normalize_k{"normalize_k"};
    Halide::Param<int> has_bias{"has_bias"}, has_gate{"has_gate"}, has_mask{"has_mask"};

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
    Halide::RDom query_channels, slot_keys, slots, mix_keys, blocks, mean_slots, rows;
    Halide::Func query_squares{"query_squares"};  // (i, t, u, h, b); undefined if plain
    Halide::Func queries{"queries"};              // (i, d, t, u, h, b), turned
    Halide::Func largest{"largest"};              // (i, s, ..)
    Halide::Func maximum{"maximum"};              // (i, ..)
    Halide::Func weight{"weight"};                // (i, key, j, ..)
    Halide::Func values{"values"};                // (d, key, j, ..); hidden ones are 0
    Halide::Func mix{"mix"};                      // (c, g, i, j, ..)
    Halide::Func sums{"sums"};                    // (c, g, i, ..)
    Halide::Func mean{"mean"};                    // (d, u, h, b): sum of the values of all slots
    Halide::Func out{"out"};                      // (d, w, u, h, b)

    std::vector<Halide::Argument> arguments() const;
    std::vector<Halide::Func> outputs() const;
};

LocalAttentionGpu make_local_attention_gpu(Halide::Type storage, const Values &statics);

}  // namespace moa
