#include "generators/coordinate_descent.h"

#include "generators/finite.h"

#include <limits>

namespace moa {

using namespace Halide;

namespace {

constexpr float kLog2E = 1.44269504088896341f;
constexpr float kSmallestExponent = -126.f;

// 2^z for z <= 0, exactly 1 at 0; below 2^-126 it stays there. Rounds by adding and taking off 1.5 * 2^23, one instruction
// fewer than by conversions; strictly, so that it is not folded away. What is under a strict addition is strict too: z had better
// be the value of a Func where it holds a product that should be fused.
Expr exp2_negative(const Expr &z) {
    const Expr bounded = max(z, kSmallestExponent), shifted = strict_float(bounded + 12582912.f);
    const Expr f = bounded - strict_float(shifted - 12582912.f);
    // Least squares of the relative error on Chebyshev nodes of [-1/2, 1/2]: 2.4e-7, of which 1e-7 is rounding. Horner's
    // scheme: a tree, which is shorter, has a product more, and takes 8 % longer.
    Expr p = 0.001327647f;
    for (const float coefficient : {0.009675540961325169f, 0.0555071507f, 0.24022161960601807f, 0.6931471824645996f, 1.f}) {
        p = p * f + coefficient;
    }
    return reinterpret<float>(reinterpret<uint32_t>(p) + (reinterpret<uint32_t>(shifted) << 23));
}

DescentRow partial(const Values &statics) {
    return DescentRow(statics.get("lanes", 16));
}

void constrain_row(const DescentRow &row, const Func &y) {
    for (int i = 0; i < 3; i++) {
        y.output_buffer().dim(i).set_bounds(0, row.scores.dim(i).extent());
    }
}

}  // namespace

DescentRow::DescentRow(int partial_sums) {
    mask.dim(0).set_stride(Expr());
    const Expr positions = scores.dim(0).extent();
    scores.dim(0).set_min(0);
    mask.dim(0).set_bounds(0, positions);
    blocks = RDom(0, (positions + partial_sums - 1) / partial_sums, "blocks");
    lanes = RDom(0, partial_sums, "lanes");

    const Expr inside = min(likely(n), positions - 1);
    const Expr kept = likely(n) < positions && mask(inside, b) != 0;
    values(n, r, b) = select_bits(kept, scores(inside, r, b), kLowest);

    const Expr value = values(blocks * lanes.x.extent() + l, r, b);
    largest_parts(l, r, b) = kLowest;
    largest_parts(l, r, b) = max(largest_parts(l, r, b), value);
    largest(r, b) = kLowest;
    largest(r, b) = max(largest(r, b), largest_parts(lanes, r, b));
    valid_parts(l, r, b) = 0;
    valid_parts(l, r, b) += select(is_kept(value), 1, 0);
    valid(r, b) = 0;
    valid(r, b) += valid_parts(lanes, r, b);
}

Expr DescentRow::is_kept(const Expr &value) {
    return reinterpret<uint32_t>(value) != reinterpret<uint32_t>(Expr(kLowest));
}

void DescentRow::define_unsound(const Expr &minus_infinity) {
    const Expr value = values(blocks * lanes.x.extent() + l, r, b);
    unsound_parts(l, r, b) = 0;
    unsound_parts(l, r, b) = max(unsound_parts(l, r, b), select(!is_finite_bits(value) && (minus_infinity || !same_bits(value, -std::numeric_limits<float>::infinity())), 1, 0));
    unsound(r, b) = 0;
    unsound(r, b) = max(unsound(r, b), unsound_parts(lanes, r, b));
}

Expr DescentRow::stabiliser(const Expr &dual) const {
    return min(largest(r, b), -dual);
}

Expr DescentRow::first_dual(const Expr &log_k, const Expr &eps) const {
    return eps * (log_k - log(cast<float>(max(valid(r, b), 1))));
}

Expr DescentRow::next_dual(const Expr &dual, const Expr &sum, const Expr &log_k, const Expr &eps) const {
    return eps * (log_k - log(sum)) - stabiliser(dual);
}

LogSumExp DescentRow::make_sum(const std::string &name, const Expr &dual, const Expr &eps) const {
    LogSumExp result{Func("shift" + name), Func("parts" + name), Func("sum" + name)};
    const Expr scale = kLog2E / eps;
    result.shift(r, b) = shift_of(stabiliser(dual), scale);
    // (min(s, -a) - stabiliser) / eps. The rounding of the shift is the same for all positions and as small as the dual's.
    Func exponent("exponent" + name);
    exponent(n, r, b) = min(values(n, r, b) * scale + result.shift(r, b), (-dual - stabiliser(dual)) * scale);
    result.parts(l, r, b) = 0.f;
    result.parts(l, r, b) += exp2_negative(exponent(blocks * lanes.x.extent() + l, r, b));
    result.sum(r, b) = 0.f;
    result.sum(r, b) += result.parts(lanes, r, b);
    return result;
}

Expr DescentRow::soft_score(const Expr &dual, const Expr &eps) const {
    const Expr distance = values(n, r, b) + dual, exponent = min(distance, 0.f) * (kLog2E / eps);
    const Expr score = select(exponent > kSmallestExponent, exp2_negative(exponent), 0.f);
    return select_bits(is_kept(values(n, r, b)), select_bits(is_nan_bits(distance), distance, score), 0.f);
}

CoordinateDescent make_coordinate_descent(Type, const Values &statics) {
    CoordinateDescent op(partial(statics));
    const DescentRow &row = op.row;
    const int iterations = statics("iterations");
    op.eps.dim(0).set_bounds(0, iterations + 1);
    for (int t = 0; t < iterations; t++) {
        const std::string number = std::to_string(t);
        Func dual("dual_" + number);
        if (t == 0) {
            dual(row.r, row.b) = row.first_dual(op.log_k, op.eps(t));
        } else {
            const Expr before = op.duals.back()(row.r, row.b);
            op.sums.push_back(row.make_sum("_" + number, before, op.eps(t)));
            dual(row.r, row.b) = row.next_dual(before, op.sums.back().sum(row.r, row.b), op.log_k, op.eps(t));
        }
        op.duals.push_back(dual);
    }
    // The first iteration takes scores off themselves, so that an infinite one is none.
    op.row.define_unsound(Internal::const_true());
    op.last_dual(row.r, row.b) = select_bits(row.unsound(row.r, row.b) != 0, nan_f32(), op.duals.back()(row.r, row.b));
    op.y(row.n, row.r, row.b) = row.soft_score(op.last_dual(row.r, row.b), op.eps(iterations));
    constrain_row(row, op.y);
    return op;
}

CoordinateDescentStep make_coordinate_descent_step(Type, const Values &statics) {
    CoordinateDescentStep op(partial(statics));
    const DescentRow &row = op.row;
    const Expr before = op.a_in(row.r, row.b);
    op.sum = row.make_sum("", before, op.eps);
    op.row.define_unsound(op.first != 0);
    // Later ones take max(score + a, 0) off a score: NaN of NaN and of infinity, and of an infinite a.
    const Expr unsound = row.unsound(row.r, row.b) != 0 || (op.first == 0 && !is_finite_bits(before) && !same_bits(before, -std::numeric_limits<float>::infinity()));
    const Expr dual = select(op.first != 0, row.first_dual(op.log_k, op.eps), row.next_dual(before, op.sum.sum(row.r, row.b), op.log_k, op.eps));
    op.a(row.r, row.b) = select_bits(unsound, nan_f32(), dual);
    for (int i = 0; i < 2; i++) {
        op.a.output_buffer().dim(i).set_bounds(0, row.scores.dim(i + 1).extent());
    }
    op.a_in.dim(0).set_stride(Expr());
    op.a.output_buffer().dim(0).set_stride(Expr());
    return op;
}

CoordinateDescentFinish make_coordinate_descent_finish(Type, const Values &statics) {
    CoordinateDescentFinish op(partial(statics));
    const DescentRow &row = op.row;
    op.a.dim(0).set_stride(Expr());
    op.y(row.n, row.r, row.b) = row.soft_score(op.a(row.r, row.b), op.eps);
    constrain_row(row, op.y);
    return op;
}

std::vector<Argument> CoordinateDescent::arguments() const {
    return {row.scores, row.mask, log_k, eps};
}

std::vector<Func> CoordinateDescent::outputs() const {
    return {y};
}

std::vector<Argument> CoordinateDescentStep::arguments() const {
    return {row.scores, row.mask, a_in, first, log_k, eps};
}

std::vector<Func> CoordinateDescentStep::outputs() const {
    return {a};
}

std::vector<Argument> CoordinateDescentFinish::arguments() const {
    return {row.scores, row.mask, a, eps};
}

std::vector<Func> CoordinateDescentFinish::outputs() const {
    return {y};
}

MOA_OPERATION(CoordinateDescent, "coordinate_descent", make_coordinate_descent);
MOA_OPERATION(CoordinateDescentStep, "coordinate_descent_step", make_coordinate_descent_step);
MOA_OPERATION(CoordinateDescentFinish, "coordinate_descent_finish", make_coordinate_descent_finish);

}  // namespace moa
