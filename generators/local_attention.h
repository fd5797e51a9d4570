#pragma once

#include "generators/codegen/kernel.h"

namespace moa {

// What the operation `local_attention` takes, whatever the algorithm.
struct LocalAttentionInputs {
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
    Halide::Param<int> left_out{"left_out"}, left_outside{"left_outside"}, zero_keys{"zero_keys"};

    std::vector<Halide::Argument> arguments() const {
        return {q, k, v, mask, q_cos, q_sin, k_cos, k_sin, q_gain, k_gain, bias, gate, window, look_backward, look_forward,
                causal, exact, shared_qk, normalize_q, normalize_k, has_bias, has_gate, has_mask, left_out, left_outside, zero_keys};
    }
};

// Turns row(d) by the tables' row: row * cos + (-second half, first half) * sin.
template<class Row>
Halide::Expr turn(const Row &row, const Halide::Expr &dim_head, const Halide::Expr &d, const Halide::Expr &cosine, const Halide::Expr &sine) {
    const Halide::Expr half = dim_head / 2;
    const Halide::Expr other = select(d < half, -row(min(d + half, dim_head - 1)), row(max(d - half, 0)));
    return row(d) * cosine + other * sine;
}

// Attention of every query to the slots of the windows around its own: slot s of window u is position
// (u - look_backward) * window + s, and a window's queries are slots look_backward * window and on. Queries and keys are
// turned by tables indexed by slot, as the package local-attention does, whatever their position.
//
// The form is attention's (generators/attention.h): a tile of query rows, blocks of keys normalised by their own maximum. A
// tile lies within one window. For exact windows it visits no slot that none of its rows may see, so that blocks are counted
// from the first slot that its first row sees. A row that sees no slot at all gets the mean of the values of all slots of
// its windows, in which slots outside of the sequence count as -1. A row that sees none but infinite scores is NaN.
//
// Slots that are never a position of the sequence a caller may leave out: a window has left_out more then, of which left_outside are
// outside of the sequence and the others zeros behind its last position; zero_keys of these every query sees, with a score of 0.
//
// Positions from the last to the end of its window are keys of zeros, hidden if there is a mask.
//
// The output is cut into windows, (d, w, u, h, b), of which the last may be shorter: what is beyond is not written.
//
// Values: head_dim (0: any), rows of a tile, keys of a block, pair = 2 for products of bf16 pairs, plain = 1 without bias, gate,
// shared_qk and normalisation.
struct LocalAttention : LocalAttentionInputs {
    enum State { kOldFactor,
                 kNewFactor,
                 kSum,
                 kMaximum,
                 kOutput };

    // row of a tile, tile of a window, position in a window, window; slot, key of a block and block; head channel; member of a
    // pair and pair; state row
    Halide::Var i{"i"}, t{"t"}, w{"w"}, u{"u"}, s{"s"}, key{"key"}, j{"j"}, d{"d"}, l{"l"}, k2{"k2"}, c{"c"};
    Halide::Var h{"h"}, b{"b"};
    Halide::RDom channels, query_channels, key_channels, maximum_keys, sum_keys, mix_keys, mean_slots, value_slots, value_channels, bad_slots, any_slots, seen_slots, steps, rows;

    Halide::Func query_squares{"query_squares"}, key_squares{"key_squares"};                // (i, t, ..), (s, ..): only where they are normalised
    Halide::Func turned{"turned"};                                                          // (d, i, t, u, h, b): turned query rows
    Halide::Func queries{"queries"};                                                        // the same transposed: (i, d, t, ..), or (l, i, d / 2, t, ..) in pairs
    Halide::Func keys{"keys"};                                                              // (d, s, u, h, b): turned
    Halide::Func values{"values"};                                                          // (d, s, u, h, b), or (l, d, s / 2, ..) in pairs; hidden ones are 0, and not finite ones
    Halide::Func largest_of_channel{"largest_of_channel"}, largest_value{"largest_value"};  // (d, u, h, b), (u, h, b): bits of the largest magnitude, NaN above all
    Halide::Func not_finite{"not_finite"};                                                  // (d, i, t, u, h, b): sum of the values that a row sees and that are not finite
    Halide::Func any_shown{"any_shown"};                                                    // (u, b)
    Halide::Func all_hidden{"all_hidden"}, seen{"seen"};                                    // (i, t, u, h, b): a row has no finite score, and yet sees a slot
    Halide::Func shown{"shown"};                                                            // (s, u, b): what queries of the window may see, as far as the query does not matter
    Halide::Func first_row{"first_row"};                                                    // (key, j, t): rows of the window that see a key are the first, and so many
    Halide::Func row_count{"row_count"};                                                    // (key, j, t, u, b)
    Halide::Func product{"product"}, score{"score"};                                        // (i, key, j, t, u, h, b)
    Halide::Func block_maximum{"block_maximum"}, weight{"weight"}, block_sum{"block_sum"};
    Halide::Func mix{"mix"}, mixed{"mixed"}, ones{"ones"};
    Halide::Func state{"state"};  // (i, c, t, u, h, b)
    Halide::Func mean{"mean"};    // (d, u, h, b): sum of the values of all slots
    Halide::Func row{"row"};      // (d, i, t, u, h, b): a tile's result
    Halide::Func out{"out"};      // (d, w, u, h, b): written where u * window + w is a position

    std::vector<Halide::Func> outputs() const;
};

LocalAttention make_local_attention(Halide::Type storage, const Values &statics);

}  // namespace moa
