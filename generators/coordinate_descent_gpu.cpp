#include "generators/coordinate_descent_gpu.h"

#include "generators/finite.h"
#include "generators/math.h"
#include "generators/nvptx.h"

#include <algorithm>

namespace moa {

using namespace Halide;

namespace {

constexpr float kMasked = kLowest;
const float kSmallestValid = next_to_lowest();
constexpr float kLog2E = 1.44269504088896341f;
constexpr float kSmallestExponent = -126.f;
constexpr int kUnrolled = 4;  // steps of a thread that go together
constexpr int kThreads = DescentRowGpu::kThreads, kGroup = DescentRowGpu::kGroup;

// A thread's terms, of all its steps, are combined from `start` on.
template<class Term, class Combine>
BlockSum make_block_sum(const DescentRowGpu &row, const std::string &name, const Expr &start, Term term, Combine combine) {
    const Var &l = row.l, &g = row.g, &r = row.r, &b = row.b;
    BlockSum sum{RDom(0, kThreads / kGroup, name + "_members"), RDom(0, kGroup, name + "_all"), Func(name + "_own"), Func(name + "_parts"), Func(name + "_of_group"), Func(name + "_groups"), Func(name)};
    const Expr position = (row.steps.y * kUnrolled + row.steps.x) * kThreads + l;
    sum.own(l, r, b) = start;
    sum.own(l, r, b) = combine(sum.own(l, r, b), term(row.values(position, r, b)));
    sum.parts(l, r, b) = sum.own(l, r, b);
    sum.of_group(g, r, b) = start;
    sum.of_group(g, r, b) = combine(sum.of_group(g, r, b), sum.parts(sum.members * kGroup + g, r, b));
    sum.groups(g, r, b) = sum.of_group(g, r, b);
    sum.total(r, b) = start;
    sum.total(r, b) = combine(sum.total(r, b), sum.groups(sum.all, r, b));
    return sum;
}

Expr plus(const Expr &a, const Expr &b) {
    return a + b;
}

void constrain_row(const DescentRowGpu &row, const Func &y) {
    for (int i = 0; i < 3; i++) {
        y.output_buffer().dim(i).set_bounds(0, row.scores.dim(i).extent());
    }
}

}  // namespace

DescentRowGpu::DescentRowGpu(const Expr &wants_finite) {
    mask.dim(0).set_stride(Expr());
    const Expr positions = scores.dim(0).extent();
    scores.dim(0).set_min(0);
    mask.dim(0).set_bounds(0, positions);
    constexpr int kRound = kThreads * kUnrolled;
    steps = RDom(0, kUnrolled, 0, (positions + kRound - 1) / kRound, "steps");

    const Expr inside = min(n, positions - 1);
    const Expr score = maximum_or_nan(scores(inside, r, b), kSmallestValid);
    const Expr kept = n < positions && mask(inside, b) != 0;
    // Chosen as integers: what a masked score holds, NaN included, must not be looked at.
    values(n, r, b) = reinterpret<float>(select(kept, reinterpret<uint32_t>(score), reinterpret<uint32_t>(Expr(kMasked))));
    largest = make_block_sum(
        *this, "largest", kMasked, [&](const Expr &value) { return select_bits(wants_finite && same_bits(value, kSmallestValid), nan_f32(), value); }, maximum_or_nan);
    valid = make_block_sum(
        *this, "valid", 0, [](const Expr &value) { return select(same_bits(value, kMasked), 0, 1); }, plus);
}

// The largest valid score or, where that is smaller, minus the dual variable; NaN where there is none, as of infinite ones.
Expr DescentRowGpu::stabiliser(const Expr &dual) const {
    const Expr most = largest.total(r, b);
    const Expr there_is = is_finite_bits(most) && !same_bits(most, kSmallestValid) && !same_bits(dual, std::numeric_limits<float>::infinity());
    return select_bits(there_is, minimum_or_nan(most, -dual), nan_f32());
}

Expr DescentRowGpu::first_dual(const Expr &log_k, const Expr &eps) const {
    const Expr value = eps * (log_k - log(cast<float>(max(valid.total(r, b), 1))));
    return select_bits(is_finite_bits(largest.total(r, b)), value, nan_f32());
}

Expr DescentRowGpu::next_dual(const Expr &dual, const Expr &sum, const Expr &log_k, const Expr &eps) const {
    return eps * (log_k - log(sum)) - stabiliser(dual);
}

BlockSum DescentRowGpu::make_sum(const std::string &name, const Func &dual) const {
    // (min(s, -a) - stabiliser) / eps: the stabiliser is -a, or no score is larger.
    const auto term = [&](const Expr &value) { return exp2_approximate(min(value * dual(0, r, b)[1] + dual(0, r, b)[2], 0.f)); };
    return make_block_sum(*this, "sum" + name, 0.f, term, plus);
}

Tuple DescentRowGpu::dual_and_shift(const Expr &dual, const Expr &eps) const {
    const Expr scale = kLog2E / eps;
    return {dual, scale, shift_of(stabiliser(dual), scale)};
}

Expr DescentRowGpu::soft_score(const Expr &dual, const Expr &eps) const {
    const Expr exponent = minimum_or_nan(values(n, r, b) + dual, 0.f) * (kLog2E / eps);
    const Expr score = select_bits(is_nan_bits(exponent), exponent, select(exponent > kSmallestExponent, exp2_approximate(exponent), 0.f));
    return select_bits(same_bits(values(n, r, b), kMasked), 0.f, score);
}

CoordinateDescentGpu make_coordinate_descent_gpu(Type, const Values &statics) {
    CoordinateDescentGpu op;
    const DescentRowGpu &row = op.row;
    const int iterations = statics("iterations");
    op.eps.dim(0).set_bounds(0, iterations + 1);
    for (int t = 0; t < iterations; t++) {
        const std::string number = std::to_string(t);
        Func dual("dual" + number);
        Expr value = row.first_dual(op.log_k, op.eps(t));
        if (t > 0) {
            op.sums.push_back(row.make_sum(number, op.duals.back()));
            value = row.next_dual(op.duals.back()(0, row.r, row.b)[0], op.sums.back().total(row.r, row.b), op.log_k, op.eps(t));
        }
        dual(op.z, row.r, row.b) = row.dual_and_shift(value, op.eps(std::min(t + 1, iterations)));
        op.duals.push_back(dual);
    }
    op.y(row.n, row.r, row.b) = row.soft_score(op.duals.back()(0, row.r, row.b)[0], op.eps(iterations));
    constrain_row(row, op.y);
    return op;
}

CoordinateDescentStepGpu make_coordinate_descent_step_gpu(Type, const Values &) {
    CoordinateDescentStepGpu op;
    const DescentRowGpu &row = op.row;
    op.before(op.z, row.r, row.b) = row.dual_and_shift(op.a_in(row.r, row.b), op.eps);
    op.sum = row.make_sum("", op.before);
    const Expr next = row.next_dual(op.a_in(row.r, row.b), op.sum.total(row.r, row.b), op.log_k, op.eps);
    op.after(op.z, row.r, row.b) = select(op.first != 0, row.first_dual(op.log_k, op.eps), next);
    op.a(row.r, row.b) = op.after(0, row.r, row.b);
    for (int i = 0; i < 2; i++) {
        op.a.output_buffer().dim(i).set_bounds(0, row.scores.dim(i + 1).extent());
    }
    op.a_in.dim(0).set_stride(Expr());
    op.a.output_buffer().dim(0).set_stride(Expr());
    return op;
}

CoordinateDescentFinishGpu make_coordinate_descent_finish_gpu(Type, const Values &) {
    CoordinateDescentFinishGpu op;
    op.a.dim(0).set_stride(Expr());
    op.y(op.row.n, op.row.r, op.row.b) = op.row.soft_score(op.a(op.row.r, op.row.b), op.eps);
    constrain_row(op.row, op.y);
    return op;
}

std::vector<Argument> CoordinateDescentGpu::arguments() const {
    return {row.scores, row.mask, log_k, eps};
}

std::vector<Func> CoordinateDescentGpu::outputs() const {
    return {y};
}

std::vector<Argument> CoordinateDescentStepGpu::arguments() const {
    return {row.scores, row.mask, a_in, first, log_k, eps};
}

std::vector<Func> CoordinateDescentStepGpu::outputs() const {
    return {a};
}

std::vector<Argument> CoordinateDescentFinishGpu::arguments() const {
    return {row.scores, row.mask, a, eps};
}

std::vector<Func> CoordinateDescentFinishGpu::outputs() const {
    return {y};
}

MOA_OPERATION(CoordinateDescentGpu, "coordinate_descent", make_coordinate_descent_gpu);
MOA_OPERATION(CoordinateDescentStepGpu, "coordinate_descent_step", make_coordinate_descent_step_gpu);
MOA_OPERATION(CoordinateDescentFinishGpu, "coordinate_descent_finish", make_coordinate_descent_finish_gpu);

}  // namespace moa
