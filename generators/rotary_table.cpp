#include "generators/rotary_table.h"

#include "generators/finite.h"

namespace moa {

using namespace Halide;

namespace {

constexpr double kQuarterTurns = 0.63661977236758134;  // of one radian

// An angle as quarter turns, and the rest in [-1/2, 1/2] of one. In doubles, whose 2^-53 is 5e-10 at 2^20 radians, whether
// or not the target fuses products. Shifted so far upward that truncation rounds to the nearest, negative angles too.
struct Turn {
    Expr quarters, rest;

    explicit Turn(const Expr &angle) {
        constexpr double kShift = 1 << 22;  // a multiple of 4
        const Expr shifted = cast<double>(angle) * Expr(kQuarterTurns) + Expr(kShift + 0.5);
        quarters = cast<int>(shifted);
        rest = cast<float>(shifted - Expr(0.5) - cast<double>(quarters));
    }
};

// Minimax on [-1/2, 1/2], leading coefficient rounded first: 4.9e-9 and 4e-10 away; in f32 both are within 8.6e-8.
Expr sine_of_quarters(const Expr &f, const Expr &square) {
    return f * (1.570796251f + square * (-0.6459611058f + square * (0.07966055721f + square * -0.004556032363f)));
}

Expr cosine_of_quarters(const Expr &square) {
    return 1.f + square * (-1.233700514f + square * (0.2536685169f + square * (-0.02085524052f + square * 0.0008935071528f)));
}

Expr negated_if(const Expr &second_bit, const Expr &value) {
    return reinterpret<float>(reinterpret<uint32_t>(value) ^ (cast<uint32_t>(second_bit & 2) << 30));
}

}  // namespace

RotaryTable make_rotary_table(Type, const Values &) {
    RotaryTable op;
    const Turn turn(op.angles(op.d, op.n));
    const Expr square = turn.rest * turn.rest, odd = (turn.quarters & 1) != 0;
    const Expr sine = sine_of_quarters(turn.rest, square), cosine = cosine_of_quarters(square);
    const Expr bad = !is_finite_bits(op.angles(op.d, op.n));
    op.table(op.d, op.n) = Tuple(select_bits(bad, nan_f32(), negated_if(turn.quarters + 1, select(odd, sine, cosine))),
                                 select_bits(bad, nan_f32(), negated_if(turn.quarters, select(odd, cosine, sine))));
    return op;
}

std::vector<Argument> RotaryTable::arguments() const {
    return {angles};
}

std::vector<Func> RotaryTable::outputs() const {
    return {table};
}

MOA_OPERATION(RotaryTable, "rotary_table", make_rotary_table);

}  // namespace moa
