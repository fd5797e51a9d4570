#include "generators/router_scores_gpu.h"

namespace moa {

using namespace Halide;

namespace {

constexpr float kSmallestNorm = 1e-12f;

Expr inverse_norm(const Expr &squares) {
    return 1.f / max(sqrt(squares), kSmallestNorm);
}

}  // namespace

RouterScoresGpu make_router_scores_gpu(Type storage, const Values &statics) {
    RouterScoresGpu op;
    const Var &n = op.n, &r = op.r, &q = op.q, &b = op.b, &l = op.l;
    const int routers = statics("routers");
    op.x = ImageParam(storage, 3, "x");
    op.sums = make_row_sums(op.x, &op.tokens, routers);
    const Expr with_cosines = op.cosine_scale != 0.f, channels = op.x.dim(0).extent();

    op.squared = RDom(0, (channels + RowSums::kLanes - 1) / RowSums::kLanes, "squared");
    const Expr channel = op.squared * RowSums::kLanes + l;
    op.squared.where(with_cosines && channel < channels);
    const Expr token = op.tokens(min(channel, channels - 1), min(r, op.tokens.dim(1).extent() - 1), b);
    op.token_parts(l, r, b) = 0.f;
    op.token_parts(l, r, b) += token * token;
    op.squared_lanes = RDom(0, RowSums::kLanes, "squared_lanes");
    op.token_squares(r, b) = 0.f;
    op.token_squares(r, b) += op.token_parts(op.squared_lanes, r, b);
    op.token_factor(r, b) = select(with_cosines, op.cosine_scale * inverse_norm(op.token_squares(r, b)), 1.f);

    const Expr dot = op.sums.result(r % routers, r / routers, n, b);
    const Expr row_factor = inverse_norm(op.sums.result(routers + RowSums::kSquares, 0, n, b));
    // A branch, not a choice: without cosines nobody makes the factors, so that nobody may read them.
    op.scores(n, r, b) = Internal::Call::make(Float(32), Internal::Call::if_then_else, {with_cosines, dot * row_factor * op.token_factor(r, b), dot}, Internal::Call::PureIntrinsic);
    op.stats(n, q, b) = op.sums.statistic_of_result(q, n, b);

    const Expr positions = op.x.dim(1).extent();
    op.tokens.dim(0).set_bounds(0, channels);
    op.scores.output_buffer().dim(0).set_bounds(0, positions);
    op.scores.output_buffer().dim(1).set_bounds(0, op.tokens.dim(1).extent());
    op.stats.output_buffer().dim(0).set_bounds(0, positions);
    op.stats.output_buffer().dim(1).set_bounds(0, RowSums::kStatistics);
    op.stats.output_buffer().dim(2).set_bounds(0, op.scores.output_buffer().dim(2).extent());
    op.scores.output_buffer().dim(2).set_min(0);
    return op;
}

std::vector<Argument> RouterScoresGpu::arguments() const {
    return {x, tokens, cosine_scale};
}

std::vector<Func> RouterScoresGpu::outputs() const {
    return {scores, stats};
}

MOA_OPERATION(RouterScoresGpu, "router_scores", make_router_scores_gpu);

}  // namespace moa
