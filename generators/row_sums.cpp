#include "generators/row_sums.h"

#include "generators/finite.h"
#include "generators/math.h"

namespace moa {

using namespace Halide;

namespace {

// How many channels a lane sums up.
Expr count_of(const RowSums &s, const Expr &lane) {
    constexpr int kGroup = RowSums::kGroup, kLanes = RowSums::kLanes;
    return max(s.channels / kGroup - lane + (kLanes - 1), 0) / kLanes * kGroup + select(lane < s.channels % kGroup, 1, 0);
}

}  // namespace

RowSums make_row_sums(const ImageParam &x) {
    constexpr int kGroup = RowSums::kGroup, kTogether = RowSums::kTogether, kLanes = RowSums::kLanes, kStep = kLanes * kTogether;
    RowSums s;
    const Var &l = s.l, &a = s.a, &n = s.n, &b = s.b, &v = s.v, &p = s.p, &j = s.j;
    s.channels = x.dim(0).extent();
    const Expr whole = s.channels / kGroup, first_of_tail = whole * kGroup;
    const auto value_at = [&](const Expr &c) { return as_f32(x(c, min(n, x.dim(1).extent() - 1), b)); };
    const auto channel = [&](const Expr &member, const Expr &of_step, const Expr &step) {
        return unsafe_promise_clamped((step * kTogether + of_step) * kLanes + l, 0, whole - 1) * kGroup + member;
    };
    s.values(v, p, j, l, n, b) = value_at(channel(v, p, j));

    const auto first = [&](int member) { return value_at(min(l * kGroup + member, s.channels - 1)); };
    Expr sum = first(0);
    for (int member = 1; member < kGroup; member++) {
        sum += first(member);
    }
    // An infinity less itself would be NaN.
    s.pivot(l, n, b) = select_bits(is_finite_bits(sum), sum * (1.f / kGroup), 0.f);

    const auto term = [&](const Expr &value) {
        const Expr relative = value - s.pivot(l, n, b);
        return select(a == RowSums::kSquares, value * value, a == RowSums::kSum, relative, relative * relative);
    };
    s.groups = RDom(0, kGroup, 0, kTogether, 0, whole / kStep, "groups");
    s.rest = RDom(0, kGroup, 0, kTogether, "rest");
    s.rest.where(whole / kStep * kStep + s.rest.y * kLanes + l < whole);
    s.tail = RDom(0, 1, "tail");
    s.tail.where(l < s.channels % kGroup);
    const Expr of_rest = channel(s.rest.x, s.rest.y, whole / kStep), of_tail = min(first_of_tail + l + s.tail, s.channels - 1);
    s.raw(l, a, n, b) = 0.f;
    s.raw(l, a, n, b) += term(s.values(s.groups.x, s.groups.y, s.groups.z, l, n, b));
    s.raw(l, a, n, b) += term(value_at(of_rest));
    s.raw(l, a, n, b) += term(value_at(of_tail));

    const Expr count = cast<float>(count_of(s, l));
    s.one_by_count(l) = select(count > 0.f, 1.f / max(count, 1.f), 0.f);
    const Expr relative = s.raw(l, RowSums::kSum, n, b);
    s.partial(l, a, n, b) = select(a == RowSums::kSum, relative + count * s.pivot(l, n, b),
                                   a == RowSums::kDistances, s.raw(l, a, n, b) - relative * relative * s.one_by_count(l), s.raw(l, a, n, b));

    s.lanes = RDom(0, kLanes, "lanes");
    s.total(a, n, b) = 0.f;
    s.total(a, n, b) += s.partial(s.lanes, a, n, b);

    s.mean_lanes = RDom(0, kLanes, "mean_lanes");
    const Expr lane = s.mean_lanes, mean = s.total(RowSums::kSum, n, b) / cast<float>(s.channels);
    const Expr count_of_lane = cast<float>(count_of(s, lane));
    const Expr difference = s.partial(lane, RowSums::kSum, n, b) - count_of_lane * mean;  // of sums
    s.distances(n, b) = 0.f;
    s.distances(n, b) += s.partial(lane, RowSums::kDistances, n, b) + difference * difference * s.one_by_count(lane);
    return s;
}

Expr RowSums::statistic(const Expr &which, const Expr &position, const Expr &batch) const {
    const Expr all = cast<float>(channels), mean = total(kSum, position, batch) / all;
    return select(which == 0, total(kSquares, position, batch), which == 1, mean, of_overflow(distances(position, batch), is_finite_bits(mean)) / all);
}

}  // namespace moa
