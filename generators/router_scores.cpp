#include "generators/router_scores.h"

#include "generators/math.h"

namespace moa {

using namespace Halide;

namespace {

template<class Term>
RouterScores::Sum make_sum(const RouterScores &op, const std::string &name, const std::vector<Var> &axes, const Expr &wanted, Term term) {
    constexpr int kLanes = RowMoments::kLanes;
    const Expr channels = op.x.dim(0).extent();
    RouterScores::Sum sum{RDom(0, channels / kLanes, name + "_blocks"), RDom(0, kLanes, name + "_lanes"), RDom(0, channels % kLanes, name + "_tail"),
                          Func(name + "_parts"), Func(name)};
    for (RDom *domain : {&sum.blocks, &sum.lanes, &sum.tail}) {
        domain->where(wanted);
    }
    const auto with_first = [&](const Expr &first) {
        std::vector<Expr> arguments{first};
        arguments.insert(arguments.end(), axes.begin(), axes.end());
        return arguments;
    };
    sum.parts(with_first(op.l)) = 0.f;
    sum.parts(with_first(op.l)) += term(sum.blocks * kLanes + op.l);
    sum.total(axes) = 0.f;
    sum.total(axes) += sum.parts(with_first(sum.lanes));
    sum.total(axes) += term(channels / kLanes * kLanes + sum.tail);
    return sum;
}

}  // namespace

RouterScores make_router_scores(Type storage, const Values &) {
    RouterScores op;
    op.x = ImageParam(storage, 3, "x");
    op.moments = make_row_moments(op.x);
    const Expr with_cosines = op.cosine_scale != 0.f;
    const auto value = [&](const Expr &c) { return row_value(op.x, c, op.n, op.b); };
    // Routing tokens wanted may be rounded up to a tile: those after the last one repeat it.
    const auto token = [&](const Expr &c) { return op.tokens(c, min(op.r, op.tokens.dim(1).extent() - 1), op.b); };

    op.dots = make_sum(op, "dots", {op.r, op.n, op.b}, Internal::const_true(), [&](const Expr &c) { return value(c) * token(c); });
    op.squares = make_sum(op, "squares", {op.n, op.b}, with_cosines, [&](const Expr &c) { return value(c) * value(c); });
    op.token_squares = make_sum(op, "token_squares", {op.r, op.b}, with_cosines, [&](const Expr &c) { return token(c) * token(c); });
    op.row_factor(op.n, op.b) = inverse_norm(op.squares.total(op.n, op.b));
    op.token_factor(op.r, op.b) = op.cosine_scale * inverse_norm(op.token_squares.total(op.r, op.b));
    const Expr dot = op.dots.total(op.r, op.n, op.b);
    op.scores(op.n, op.r, op.b) = select(with_cosines, dot * op.row_factor(op.n, op.b) * op.token_factor(op.r, op.b), dot);
    op.stats(op.n, op.q, op.b) = op.moments.statistic(op.q, op.n, op.b);
    op.constrain_shapes(op.scores, op.stats);
    return op;
}

std::vector<Func> RouterScores::outputs() const {
    return {scores, stats};
}

MOA_OPERATION(RouterScores, "router_scores", make_router_scores);

}  // namespace moa
