#include "generators/router_scores.h"

namespace moa {

using namespace Halide;

namespace {

constexpr float kSmallestNorm = 1e-12f;

Expr inverse_norm(const Expr &squares) {
    return 1.f / max(sqrt(squares), kSmallestNorm);
}

void constrain_shapes(RouterScores &op) {
    const Expr positions = op.x.dim(1).extent();
    op.tokens.dim(0).set_bounds(0, op.x.dim(0).extent());
    op.scores.output_buffer().dim(0).set_bounds(0, positions);
    op.scores.output_buffer().dim(1).set_bounds(0, op.tokens.dim(1).extent());
    op.stats.output_buffer().dim(0).set_bounds(0, positions);
    op.stats.output_buffer().dim(1).set_bounds(0, RowMoments::kStatistics);
    op.stats.output_buffer().dim(2).set_bounds(0, op.scores.output_buffer().dim(2).extent());
    op.scores.output_buffer().dim(2).set_min(0);
}

}  // namespace

RouterScores make_router_scores(Type storage, const Values &) {
    constexpr int kLanes = RowMoments::kLanes;
    RouterScores op;
    op.x = ImageParam(storage, 3, "x");
    op.moments = make_row_moments(op.x);
    const Expr channels = op.x.dim(0).extent();
    // Routing tokens wanted may be rounded up to a tile: those after the last one repeat it.
    const auto token = [&](const Expr &c) { return op.tokens(c, min(op.r, op.tokens.dim(1).extent() - 1), op.b); };

    const RowMoments &m = op.moments;
    const Expr with_cosines = op.cosine_scale != 0.f, first_of_tail = channels / kLanes * kLanes;
    op.token_channels = RDom(0, channels, "token_channels");
    op.blocks = RDom(0, channels / kLanes, "square_blocks");
    op.lanes = RDom(0, kLanes, "square_lanes");
    op.tail = RDom(0, channels % kLanes, "square_tail");
    for (RDom *domain : {&op.token_channels, &op.blocks, &op.lanes, &op.tail}) {
        domain->where(with_cosines);
    }
    op.token_squares(op.r, op.b) = 0.f;
    op.token_squares(op.r, op.b) += token(op.token_channels) * token(op.token_channels);
    const auto square = [&](const Expr &c) { return row_value(op.x, c, op.n, op.b) * row_value(op.x, c, op.n, op.b); };
    op.square_parts(op.l, op.n, op.b) = 0.f;
    op.square_parts(op.l, op.n, op.b) += square(op.blocks * kLanes + op.l);
    op.squares(op.n, op.b) = 0.f;
    op.squares(op.n, op.b) += op.square_parts(op.lanes, op.n, op.b);
    op.squares(op.n, op.b) += square(first_of_tail + op.tail);

    const auto product = [&](const Expr &c) { return row_value(op.x, c, op.n, op.b) * token(c); };
    op.dot_parts(op.l, op.r, op.n, op.b) = 0.f;
    op.dot_parts(op.l, op.r, op.n, op.b) += product(m.blocks * kLanes + op.l);
    op.dots(op.r, op.n, op.b) = 0.f;
    op.dots(op.r, op.n, op.b) += op.dot_parts(m.lanes, op.r, op.n, op.b);
    op.dots(op.r, op.n, op.b) += product(first_of_tail + m.tail);

    const Expr dot = op.dots(op.r, op.n, op.b);
    const Expr cosine = dot * inverse_norm(op.squares(op.n, op.b)) * inverse_norm(op.token_squares(op.r, op.b));
    op.scores(op.n, op.r, op.b) = select(with_cosines, op.cosine_scale * cosine, dot);
    op.stats(op.n, op.q, op.b) = m.statistic(op.q, op.n, op.b);
    constrain_shapes(op);
    return op;
}

std::vector<Argument> RouterScores::arguments() const {
    return {x, tokens, cosine_scale};
}

std::vector<Func> RouterScores::outputs() const {
    return {scores, stats};
}

MOA_OPERATION(RouterScores, "router_scores", make_router_scores);

}  // namespace moa
