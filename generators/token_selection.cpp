#include "generators/token_selection.h"

#include "generators/math.h"

#include <algorithm>

namespace moa {

using namespace Halide;

namespace {

constexpr int kWord = TokenSelection::kWord, kLanes = Warps::kLanes, kWarps = Warps::kWarps, kThreads = Warps::kThreads;

Expr u32(const Expr &e) {
    return cast<uint32_t>(e);
}

// Larger is better: any valid score, then NaN, then masked positions. Looked at as bits throughout, since Halide compiles for
// finite values; unsigned, since int32 must not overflow.
void define_keys(TokenSelection &op) {
    const Var &n = op.n, &r = op.warps.r, &b = op.warps.b;
    const Expr bits = reinterpret<uint32_t>(op.scores(n, r, b)), magnitude = bits & u32(0x7fffffff), sign = u32(1) << 31;
    const Expr ordered = select(magnitude == u32(0), sign, (bits & sign) != u32(0), ~bits, bits | sign);
    const Expr valid = select(magnitude > u32(0x7f800000), u32(1), ordered);
    op.keys(n, r, b) = select(op.mask(n, b) != 0, valid, u32(0));
}

void define_histogram(TokenSelection &op, TokenSelection::Level &level, const std::string &name, int shift, const Expr &prefix) {
    constexpr int kUnrolled = TokenSelection::kUnrolled, kRound = kThreads * kUnrolled;
    const Var &x = op.x, &item = op.item, &w = op.warps.w, &r = op.warps.r, &b = op.warps.b;
    const Expr positions = op.scores.dim(0).extent();
    level.taken(x, item, w, r, b) = op.keys(min(w * kRound + item * kThreads + x, positions - 1), r, b);
    // By 16 bits, of which Halide's bounds know the range.
    const int from = std::min(shift, 16), digits = 1 << level.bits;
    level.digit(x, item, w, r, b) = cast<int>((cast<uint16_t>(level.taken(x, item, w, r, b) >> from) >> (shift - from)) & cast<uint16_t>(digits - 1));
    level.items = RDom(0, kThreads, 0, kUnrolled, 0, (positions + kRound - 1) / kRound, "items" + name);
    const RVar thread = level.items.x, of_round = level.items.y, round = level.items.z;
    level.items.where(round * kRound + of_round * kThreads + thread < positions);
    if (shift + level.bits < 32) {
        level.items.where(level.taken(thread, of_round, round, r, b) >> (shift + level.bits) == prefix >> (shift + level.bits));
    }
    level.histogram(x, r, b) = 0;
    level.histogram(level.digit(thread, of_round, round, r, b), r, b) += 1;
}

// One digit more of the k-th largest key.
Func define_level(TokenSelection &op, int shift, int bits, const Expr &prefix, const Expr &wanted) {
    const Var &x = op.x, &l = op.warps.l, &w = op.warps.w, &r = op.warps.r, &b = op.warps.b;
    const std::string name = std::to_string(op.levels.size());
    const int digits = 1 << bits;
    TokenSelection::Level level;
    for (auto [f, what] : {std::pair(&level.taken, "taken"), {&level.digit, "digit"}, {&level.histogram, "histogram"}, {&level.own, "own"}, {&level.upto, "upto"}, {&level.earlier, "earlier"}, {&level.found, "found"}}) {
        *f = Func(what + name);
    }
    level.bits = bits;
    level.bins = digits / kThreads;
    define_histogram(op, level, name, shift, prefix);

    const auto digit_of = [&](const Expr &lane, const Expr &warp, const Expr &bin) {
        return unsafe_promise_clamped(digits - 1 - ((warp * kLanes + lane) * level.bins + bin), 0, digits - 1);
    };
    level.own_bins = RDom(0, level.bins, "own_bins" + name);
    level.own(l, w, r, b) = 0;
    level.own(l, w, r, b) += level.histogram(digit_of(l, w, level.own_bins), r, b);
    level.scan = op.warps.scan("scan" + name, level.own);
    level.upto(l, w, r, b) = level.scan.back()(l, w, r, b);
    level.earlier(l, w, r, b) = select(l < w, level.upto(kLanes - 1, l, r, b), 0);
    level.before = op.warps.fold("before" + name, level.earlier, plus);

    level.choice = RDom(0, level.bins, 0, kLanes, 0, kWarps, "choice" + name);
    const RVar bin = level.choice.x, lane = level.choice.y, warp = level.choice.z;
    Expr above = level.before.back()(lane, warp, r, b) + select(lane > 0, level.upto(max(lane - 1, 0), warp, r, b), 0);
    for (int larger = 0; larger + 1 < level.bins; larger++) {
        above += select(bin > larger, level.histogram(digit_of(lane, warp, larger), r, b), 0);
    }
    const Expr mine = level.histogram(digit_of(lane, warp, bin), r, b);
    // One of the digits is it: at least as many keys as are wanted have the prefix.
    level.choice.where(above < wanted && wanted <= above + mine);
    level.found(x, r, b) = Tuple(undef<uint32_t>(), undef<int>());
    level.found(0, r, b) = Tuple(prefix | (u32(digit_of(lane, warp, bin)) << shift), wanted - above);
    op.levels.push_back(level);
    return level.found;
}

Tuple counted(const Tuple &bits) {
    return {cast<int>(popcount(bits[0])), cast<int>(popcount(bits[1]))};
}

Tuple only_if(const Expr &condition, const Tuple &values) {
    return {select(condition, values[0], 0), select(condition, values[1], 0)};
}

void define_bits(TokenSelection &op, const Func &found) {
    const Var &x = op.x, &r = op.warps.r, &b = op.warps.b;
    const Expr positions = op.scores.dim(0).extent();
    op.words = (positions + kWord - 1) / kWord;
    op.lanes = RDom(0, kWord, "lanes");
    const Expr position = x * kWord + op.lanes, key = op.keys(min(position, positions - 1), r, b);
    const Expr threshold = found(0, r, b)[0], inside = position < positions;
    const Expr larger = op.warps.ballot(inside && key > threshold, op.lanes), equal = op.warps.ballot(inside && key == threshold, op.lanes);
    if (op.warps.simulated) {
        op.bits(x, r, b) = {u32(0), u32(0)};
        op.bits(x, r, b) = {op.bits(x, r, b)[0] | larger, op.bits(x, r, b)[1] | equal};
    } else {
        op.bits(x, r, b) = {undef<uint32_t>(), undef<uint32_t>()};
        op.bits(x, r, b) = {larger, equal};
    }
}

void define_bases(TokenSelection &op) {
    const Var &l = op.warps.l, &w = op.warps.w, &r = op.warps.r, &b = op.warps.b;
    const Expr word = w * kLanes + l;
    op.own(l, w, r, b) = only_if(word < op.words, counted(op.bits(min(word, op.words - 1), r, b)));
    op.scan = op.warps.scan("scan", op.own);
    op.upto(l, w, r, b) = Tuple(op.scan.back()(l, w, r, b));
    op.earlier(l, w, r, b) = only_if(l < w, op.upto(kLanes - 1, l, r, b));
    op.before = op.warps.fold("before", op.earlier, plus);
    op.base(l, w, r, b) = plus(op.before.back()(l, w, r, b), only_if(l > 0, op.upto(max(l - 1, 0), w, r, b)));
}

}  // namespace

TokenSelection::Place TokenSelection::place(const Expr &lane, const Expr &word) const {
    const Var &r = warps.r, &b = warps.b;
    const Expr bit = u32(1) << u32(lane), lower = bit - u32(1), equal_wanted = levels.back().found(0, r, b)[1];
    const Expr larger = bits(word, r, b)[0], equal = bits(word, r, b)[1];
    const Expr of_warp = clamp(word / kLanes, 0, kWarps - 1), in_warp = word % kLanes;
    const Expr larger_before = base(in_warp, of_warp, r, b)[0] + cast<int>(popcount(larger & lower));
    const Expr equal_before = base(in_warp, of_warp, r, b)[1] + cast<int>(popcount(equal & lower));
    const Expr selected = (larger & bit) != u32(0) || ((equal & bit) != u32(0) && equal_before < equal_wanted);
    return {selected, unsafe_promise_clamped(larger_before + min(equal_before, equal_wanted), 0, k - 1)};
}

TokenSelection make_token_selection(const Values &values) {
    TokenSelection op(values);
    const Var &r = op.warps.r, &b = op.warps.b;
    define_keys(op);
    Func found = define_level(op, 21, 11, u32(0), op.k);
    found = define_level(op, 10, 11, found(0, r, b)[0], found(0, r, b)[1]);
    found = define_level(op, 0, 10, found(0, r, b)[0], found(0, r, b)[1]);
    define_bits(op, found);
    define_bases(op);
    allow_any_stride(op.mask);
    op.mask.dim(0).set_bounds(0, op.scores.dim(0).extent());
    return op;
}

}  // namespace moa
