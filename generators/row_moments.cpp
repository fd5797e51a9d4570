#include "generators/row_moments.h"

#include "generators/math.h"

namespace moa {

using namespace Halide;

Expr row_value(const ImageParam &x, const Expr &c, const Expr &n, const Expr &b) {
    return as_f32(x(c, min(n, x.dim(1).extent() - 1), b));
}

RowMoments make_row_moments(const ImageParam &x) {
    constexpr int kLanes = RowMoments::kLanes;
    RowMoments m;
    const Expr channels = x.dim(0).extent();
    m.channels_ = cast<float>(channels);
    m.blocks = RDom(0, channels / kLanes, "blocks");
    m.lanes = RDom(0, kLanes, "lanes");
    m.tail = RDom(0, channels % kLanes, "tail");
    const Expr first_of_tail = channels / kLanes * kLanes;

    const auto term = [&](const Expr &q, const Expr &value) { return select(q == 0, value * value, value); };
    m.sum_parts(m.l, m.q, m.n, m.b) = 0.f;
    m.sum_parts(m.l, m.q, m.n, m.b) += term(m.q, row_value(x, m.blocks * kLanes + m.l, m.n, m.b));
    m.sums(m.q, m.n, m.b) = 0.f;
    m.sums(m.q, m.n, m.b) += m.sum_parts(m.lanes, m.q, m.n, m.b);
    m.sums(m.q, m.n, m.b) += term(m.q, row_value(x, first_of_tail + m.tail, m.n, m.b));

    const auto distance = [&](const Expr &c) {
        const Expr d = row_value(x, c, m.n, m.b) - m.sums(1, m.n, m.b) / m.channels_;
        return d * d;
    };
    m.deviation_parts(m.l, m.n, m.b) = 0.f;
    m.deviation_parts(m.l, m.n, m.b) += distance(m.blocks * kLanes + m.l);
    m.deviations(m.n, m.b) = 0.f;
    m.deviations(m.n, m.b) += m.deviation_parts(m.lanes, m.n, m.b);
    m.deviations(m.n, m.b) += distance(first_of_tail + m.tail);
    return m;
}

Expr RowMoments::statistic(const Expr &which, const Expr &position, const Expr &batch) const {
    return select(which == 0, sums(0, position, batch), which == 1, sums(1, position, batch) / channels_, deviations(position, batch) / channels_);
}

}  // namespace moa
