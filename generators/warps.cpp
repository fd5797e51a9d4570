#include "generators/warps.h"

#include "generators/finite.h"
#include "generators/nvptx.h"

namespace moa {

using namespace Halide;

namespace {

Tuple elements(const Func &f, const Expr &l, const Warps &warps) {
    std::vector<Expr> values;
    for (int i = 0; i < f.outputs(); i++) {
        const FuncRef at = f(l, warps.w, warps.r, warps.b);
        values.push_back(f.outputs() == 1 ? Expr(at) : Expr(at[i]));
    }
    return Tuple(values);
}

void define(const Func &f, const Warps &warps, const Tuple &values) {
    if (values.size() == 1) {
        f(warps.l, warps.w, warps.r, warps.b) = values[0];
    } else {
        f(warps.l, warps.w, warps.r, warps.b) = values;
    }
}

Expr chosen_or_nan(const Expr &a, const Expr &b, const Expr &chosen) {
    return select_bits(is_nan_bits(a), a, select_bits(is_nan_bits(b), b, chosen));
}

}  // namespace

std::vector<Func> Warps::fold(const std::string &name, const Func &values, const Combine &combine) const {
    std::vector<Func> steps = {values};
    for (int distance = kLanes / 2; distance > 0; distance /= 2) {
        const Tuple mine = elements(steps.back(), l, *this);
        std::vector<Expr> theirs;
        const Tuple read = elements(steps.back(), simulated ? clamp(l + distance - l / distance % 2 * (2 * distance), 0, kLanes - 1) : Expr(l), *this);
        for (const Expr &value : read.as_vector()) {
            theirs.push_back(simulated ? value : warp_exchange(value, distance));
        }
        Func step(name + "_by_" + std::to_string(distance));
        define(step, *this, combine(mine, Tuple(theirs)));
        steps.push_back(step);
    }
    steps.erase(steps.begin());
    return steps;
}

std::vector<Func> Warps::scan(const std::string &name, const Func &values) const {
    std::vector<Func> steps = {values};
    for (int distance = 1; distance < kLanes; distance *= 2) {
        const Tuple mine = elements(steps.back(), l, *this);
        std::vector<Expr> sums;
        const Tuple read = elements(steps.back(), simulated ? max(l - distance, 0) : Expr(l), *this);
        for (size_t i = 0; i < read.size(); i++) {
            const Expr theirs = simulated ? read[i] : warp_shift_up(read[i], distance);
            sums.push_back(mine[i] + select(l >= distance, theirs, cast(read[i].type(), 0)));
        }
        Func step(name + "_over_" + std::to_string(distance));
        define(step, *this, Tuple(sums));
        steps.push_back(step);
    }
    steps.erase(steps.begin());
    return steps;
}

Expr Warps::ballot(const Expr &condition, const Expr &lane) const {
    const Expr one = cast<uint32_t>(1), none = cast<uint32_t>(0);
    return simulated ? select(condition, one << cast<uint32_t>(lane), none) : warp_ballot(condition) + cast<uint32_t>(lane) * none;
}

Expr Warps::exp2(const Expr &x) const {
    constexpr float kLn2 = 0.693147180559945309f;
    return simulated ? exp(x * kLn2) : exp2_approximate(x);
}

Expr Warps::maximum_or_nan(const Expr &a, const Expr &b) const {
    return simulated ? chosen_or_nan(a, b, max(a, b)) : moa::maximum_or_nan(a, b);
}

Expr Warps::minimum_or_nan(const Expr &a, const Expr &b) const {
    return simulated ? chosen_or_nan(a, b, min(a, b)) : moa::minimum_or_nan(a, b);
}

Tuple plus(const Tuple &a, const Tuple &b) {
    std::vector<Expr> sums;
    for (size_t i = 0; i < a.size(); i++) {
        sums.push_back(a[i] + b[i]);
    }
    return Tuple(sums);
}

}  // namespace moa
