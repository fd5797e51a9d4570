#include "generators/coordinate_descent_warps.h"

#include "generators/finite.h"
#include "generators/math.h"

#include <algorithm>

namespace moa {

using namespace Halide;

namespace {

constexpr float kMasked = kLowest;
const float kSmallestValid = next_to_lowest();
constexpr float kLog2E = 1.44269504088896341f;
constexpr float kSmallestExponent = -126.f;
constexpr int kLanes = Warps::kLanes, kThreads = Warps::kThreads, kUnrolled = CoordinateDescentWarps::kUnrolled;

Warps::Combine largest_and_count(const Warps &warps) {
    return [&](const Tuple &a, const Tuple &b) { return Tuple(warps.maximum_or_nan(a[0], b[0]), a[1] + b[1]); };
}

void define_values(CoordinateDescentWarps &op) {
    const Expr positions = op.scores.dim(0).extent();
    constexpr int kRound = kThreads * kUnrolled;
    op.steps = RDom(0, kUnrolled, 0, (positions + kRound - 1) / kRound, "steps");
    op.lanes = RDom(0, kLanes, "lanes");
    const Expr inside = min(op.n, positions - 1);
    const Expr given = op.scores(inside, op.warps.r, op.warps.b);
    const Expr score = select_bits(is_finite_bits(given), max(given, kSmallestValid), nan_f32());
    const Expr kept = op.n < positions && op.mask(inside, op.warps.b) != 0;
    // Chosen as integers: what a masked score holds, NaN included, must not be looked at. Zeros have no sign: all lanes of a warp
    // store what they found to be the largest, and of two zeros that would be another one in each.
    const Expr bits = reinterpret<uint32_t>(score), zero = cast<uint32_t>(0), minus_zero = cast<uint32_t>(1) << 31;
    op.values(op.n, op.warps.r, op.warps.b) = reinterpret<float>(select(kept, select(bits == minus_zero, zero, bits), reinterpret<uint32_t>(Expr(kMasked))));
}

Expr value_of_step(const CoordinateDescentWarps &op) {
    const Expr position = (op.steps.y * kUnrolled + op.steps.x) * kThreads + op.warps.w * kLanes + op.warps.l;
    return op.values(position, op.warps.r, op.warps.b);
}

// The dual variable, and what the exponents of the next pass are made of.
Tuple start_of(const CoordinateDescentWarps &op, const Expr &dual, const Expr &largest, const Expr &eps) {
    const Expr scale = kLog2E / eps;
    return {dual, scale, shift_of(op.warps.minimum_or_nan(largest, -dual), scale), largest};
}

void define_first_pass(CoordinateDescentWarps &op) {
    const Var &l = op.warps.l, &w = op.warps.w, &r = op.warps.r, &b = op.warps.b;
    CoordinateDescentWarps::Pass pass{Func("own_first"), {}, Func("state_first")};
    pass.own(l, w, r, b) = Tuple(kMasked, 0);
    const Expr value = value_of_step(op);
    pass.own(l, w, r, b) = largest_and_count(op.warps)(pass.own(l, w, r, b), Tuple(value, select(same_bits(value, kMasked), 0, 1)));
    pass.fold = op.warps.fold("fold_first", pass.own, largest_and_count(op.warps));
    pass.state(w, r, b) = Tuple(undef<float>(), undef<int>());
    pass.state(w, r, b) = Tuple(pass.fold.back()(op.lanes, w, r, b));
    op.passes.push_back(pass);
}

CoordinateDescentWarps::Outcome outcome_of_first_pass(const CoordinateDescentWarps &op) {
    const Var &l = op.warps.l, &w = op.warps.w, &r = op.warps.r, &b = op.warps.b;
    CoordinateDescentWarps::Outcome outcome{Func("read_first"), {}, Func("start_first")};
    outcome.read(l, w, r, b) = Tuple(op.passes.back().state(l, r, b));
    outcome.fold = op.warps.fold("read_fold_first", outcome.read, largest_and_count(op.warps));
    const FuncRef all = outcome.fold.back()(l, w, r, b);
    const Expr dual = op.eps(0) * (op.log_k - log(cast<float>(max(all[1], 1))));
    outcome.start(l, w, r, b) = start_of(op, select_bits(is_nan_bits(all[0]), all[0], dual), all[0], op.eps(1));
    return outcome;
}

// The sum of exp((s + b - max(s + b)) / eps) for the dual that the latest outcome has.
void define_pass(CoordinateDescentWarps &op, const std::string &number) {
    const Var &l = op.warps.l, &w = op.warps.w, &r = op.warps.r, &b = op.warps.b;
    const Func start = op.outcomes.back().start;
    CoordinateDescentWarps::Pass pass{Func("own" + number), {}, Func("state" + number)};
    pass.own(l, w, r, b) = 0.f;
    // (min(s, -a) - stabiliser) / eps: the stabiliser is -a, or no score is larger.
    pass.own(l, w, r, b) += op.warps.exp2(min(value_of_step(op) * start(l, w, r, b)[1] + start(l, w, r, b)[2], 0.f));
    pass.fold = op.warps.fold("fold" + number, pass.own, plus);
    pass.state(w, r, b) = Tuple(undef<float>(), undef<float>(), undef<float>());
    pass.state(w, r, b) = Tuple(pass.fold.back()(op.lanes, w, r, b), start(op.lanes, w, r, b)[0], start(op.lanes, w, r, b)[3]);
    op.passes.push_back(pass);
}

CoordinateDescentWarps::Outcome outcome_of_pass(const CoordinateDescentWarps &op, const std::string &number, int iteration, int iterations) {
    const Var &l = op.warps.l, &w = op.warps.w, &r = op.warps.r, &b = op.warps.b;
    const Func state = op.passes.back().state;
    CoordinateDescentWarps::Outcome outcome{Func("read" + number), {}, Func("start" + number)};
    outcome.read(l, w, r, b) = state(l, r, b)[0];
    outcome.fold = op.warps.fold("read_fold" + number, outcome.read, plus);
    const Expr before = state(w, r, b)[1], largest = state(w, r, b)[2];
    const Expr dual = op.eps(iteration) * (op.log_k - log(outcome.fold.back()(l, w, r, b))) - op.warps.minimum_or_nan(largest, -before);
    outcome.start(l, w, r, b) = start_of(op, dual, largest, op.eps(std::min(iteration + 1, iterations)));
    return outcome;
}

}  // namespace

CoordinateDescentWarps make_coordinate_descent_warps(Type, const Values &statics) {
    CoordinateDescentWarps op(statics);
    const Var &n = op.n, &r = op.warps.r, &b = op.warps.b;
    const int iterations = statics("iterations");
    define_values(op);
    define_first_pass(op);
    op.outcomes.push_back(outcome_of_first_pass(op));
    for (int t = 1; t < iterations; t++) {
        const std::string number = std::to_string(t);
        define_pass(op, number);
        op.outcomes.push_back(outcome_of_pass(op, number, t, iterations));
    }
    op.last(r, b) = undef<float>();
    op.last(r, b) = op.outcomes.back().start(op.lanes, 0, r, b)[0];
    const Expr value = op.values(n, r, b), exponent = op.warps.minimum_or_nan(value + op.last(r, b), 0.f) * (kLog2E / op.eps(iterations));
    const Expr score = select_bits(is_nan_bits(exponent), exponent, select(exponent > kSmallestExponent, op.warps.exp2(exponent), 0.f));
    op.y(n, r, b) = select_bits(same_bits(value, kMasked), 0.f, score);

    op.eps.dim(0).set_bounds(0, iterations + 1);
    op.scores.dim(0).set_min(0);
    allow_any_stride(op.mask);
    op.mask.dim(0).set_bounds(0, op.scores.dim(0).extent());
    for (int i = 0; i < 3; i++) {
        op.y.output_buffer().dim(i).set_bounds(0, op.scores.dim(i).extent());
    }
    return op;
}

std::vector<Argument> CoordinateDescentWarps::arguments() const {
    return {scores, mask, log_k, eps};
}

std::vector<Func> CoordinateDescentWarps::outputs() const {
    return {y};
}

MOA_OPERATION(CoordinateDescentWarps, "coordinate_descent", make_coordinate_descent_warps);

}  // namespace moa
