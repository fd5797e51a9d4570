#include "generators/row_sums.h"

#include "generators/math.h"

#include <algorithm>

namespace moa {

using namespace Halide;

namespace {

// How many channels a lane sums up.
Expr count_of(const RowSums &s, const Expr &lane) {
    constexpr int kGroup = RowSums::kGroup, kLanes = RowSums::kLanes;
    return max(s.channels / kGroup - lane + (kLanes - 1), 0) / kLanes * kGroup + select(lane < s.channels % kGroup, 1, 0);
}

}  // namespace

RowSums make_row_sums(const ImageParam &x, const ImageParam *tokens, int routers) {
    constexpr int kGroup = RowSums::kGroup, kTogether = RowSums::kTogether, kLanes = RowSums::kLanes, kStep = kLanes * kTogether;
    RowSums s;
    const Var &l = s.l, &a = s.a, &g = s.g, &n = s.n, &b = s.b, &v = s.v, &p = s.p, &j = s.j;
    s.routers = routers;
    s.channels = x.dim(0).extent();
    const Expr whole = s.channels / kGroup, first_of_tail = whole * kGroup;
    const auto value_at = [&](const Expr &c) { return as_f32(x(c, min(n, x.dim(1).extent() - 1), b)); };
    const auto weight_at = [&](const Expr &c, const Expr &a) {
        return tokens == nullptr ? Expr(0.f) : (*tokens)(c, min(g * routers + a, tokens->dim(1).extent() - 1), b);
    };
    const auto channel = [&](const Expr &member, const Expr &of_step, const Expr &step) {
        return unsafe_promise_clamped((step * kTogether + of_step) * kLanes + l, 0, whole - 1) * kGroup + member;
    };
    s.values(v, p, j, l, n, b) = value_at(channel(v, p, j));
    s.weights(v, p, j, l, a, g, b) = weight_at(channel(v, p, j), a);

    const auto first = [&](int member) { return value_at(min(l * kGroup + member, s.channels - 1)); };
    Expr sum = first(0);
    for (int member = 1; member < kGroup; member++) {
        sum += first(member);
    }
    s.pivot(l, n, b) = sum * (1.f / kGroup);

    const auto term = [&](const Expr &value, const Expr &weight) {
        const Expr relative = value - s.pivot(l, n, b);
        return select(a < routers, value * weight, a == routers + RowSums::kSquares, value * value, a == routers + RowSums::kSum, relative, relative * relative);
    };
    const Expr router = min(a, std::max(routers - 1, 0));
    s.groups = RDom(0, kGroup, 0, kTogether, 0, whole / kStep, "groups");
    s.rest = RDom(0, kGroup, 0, kTogether, "rest");
    s.rest.where(whole / kStep * kStep + s.rest.y * kLanes + l < whole);
    s.tail = RDom(0, 1, "tail");
    s.tail.where(l < s.channels % kGroup);
    const Expr of_rest = channel(s.rest.x, s.rest.y, whole / kStep), of_tail = min(first_of_tail + l + s.tail, s.channels - 1);
    s.raw(l, a, g, n, b) = 0.f;
    s.raw(l, a, g, n, b) += term(s.values(s.groups.x, s.groups.y, s.groups.z, l, n, b), s.weights(s.groups.x, s.groups.y, s.groups.z, l, router, g, b));
    s.raw(l, a, g, n, b) += term(value_at(of_rest), weight_at(of_rest, router));
    s.raw(l, a, g, n, b) += term(value_at(of_tail), weight_at(of_tail, router));

    const Expr count = cast<float>(count_of(s, l));
    s.one_by_count(l) = select(count > 0.f, 1.f / max(count, 1.f), 0.f);
    const Expr relative = s.raw(l, routers + RowSums::kSum, g, n, b);
    s.partial(l, a, g, n, b) = select(a == routers + RowSums::kSum, relative + count * s.pivot(l, n, b),
                                      a == routers + RowSums::kDistances, s.raw(l, a, g, n, b) - relative * relative * s.one_by_count(l), s.raw(l, a, g, n, b));

    s.lanes = RDom(0, kLanes, "lanes");
    s.total(a, g, n, b) = 0.f;
    s.total(a, g, n, b) += s.partial(s.lanes, a, g, n, b);

    s.mean_lanes = RDom(0, kLanes, "mean_lanes");
    const Expr lane = s.mean_lanes, mean = s.total(routers + RowSums::kSum, g, n, b) / cast<float>(s.channels);
    const Expr count_of_lane = cast<float>(count_of(s, lane));
    const Expr difference = s.partial(lane, routers + RowSums::kSum, g, n, b) - count_of_lane * mean;  // of sums
    s.distances(g, n, b) = 0.f;
    s.distances(g, n, b) += s.partial(lane, routers + RowSums::kDistances, g, n, b) + difference * difference * s.one_by_count(lane);
    s.result(a, g, n, b) = select(a == routers + RowSums::kDistances, s.distances(g, n, b), s.total(min(a, routers + RowSums::kSum), g, n, b));
    return s;
}

Expr RowSums::statistic_of_result(const Expr &which, const Expr &position, const Expr &batch) const {
    return result(routers + which, 0, position, batch) / select(which == 0, 1.f, cast<float>(channels));
}

Expr RowSums::statistic(const Expr &which, const Expr &position, const Expr &batch) const {
    const Expr all = cast<float>(channels);
    return select(which == 0, total(routers + kSquares, 0, position, batch), which == 1, total(routers + kSum, 0, position, batch) / all,
                  distances(0, position, batch) / all);
}

}  // namespace moa
