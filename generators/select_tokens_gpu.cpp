#include "generators/select_tokens_gpu.h"

#include "generators/math.h"
#include "generators/nvptx.h"

#include <algorithm>

namespace moa {

using namespace Halide;

namespace {

constexpr int kWord = SelectTokensGpu::kWord, kChunks = SelectTokensGpu::kChunks, kSection = SelectTokensGpu::kSection;

Expr u32(const Expr &e) {
    return cast<uint32_t>(e);
}

// Larger is better: any valid score, then NaN, then masked positions. Looked at as bits throughout, since Halide compiles for
// finite values; unsigned, since int32 must not overflow.
void define_keys(SelectTokensGpu &op) {
    const Expr bits = reinterpret<uint32_t>(op.scores(op.n, op.r, op.b)), magnitude = bits & u32(0x7fffffff), sign = u32(1) << 31;
    const Expr ordered = select(magnitude == u32(0), sign, (bits & sign) != u32(0), ~bits, bits | sign);
    const Expr valid = select(magnitude > u32(0x7f800000), u32(1), ordered);
    op.keys(op.n, op.r, op.b) = select(op.mask(op.n, op.b) != 0, valid, u32(0));
}

// One digit more of the k-th largest key.
Func define_level(SelectTokensGpu &op, int shift, int bits, const Expr &prefix, const Expr &wanted) {
    const Var &x = op.x, &s = op.s, &r = op.r, &b = op.b;
    const std::string name = std::to_string(op.levels.size());
    const int bins = 1 << bits, groups = bins / kWord;
    SelectTokensGpu::Level level;
    const auto named = [&](const std::string &what) { return what + name; };
    for (auto [f, what] : {std::pair(&level.taken, "taken"), {&level.digit, "digit"}, {&level.histogram, "histogram"}, {&level.group_sum, "group_sum"}, {&level.groups, "groups"}, {&level.above_sum, "above_sum"}, {&level.above, "above"}, {&level.group, "group"}, {&level.bin_above_sum, "bin_above_sum"}, {&level.bin_above, "bin_above"}, {&level.found, "found"}}) {
        *f = Func(named(what));
    }
    level.bits = bits;
    level.group_bins = RDom(0, kWord, named("group_bins"));
    level.later_groups = RDom(0, groups, named("later_groups"));
    level.group_choice = RDom(0, groups, named("group_choice"));
    level.later_bins = RDom(0, kWord, named("later_bins"));
    level.bin_choice = RDom(0, kWord, named("bin_choice"));

    constexpr int kThreads = SelectTokensGpu::kThreads, kUnrolled = SelectTokensGpu::kUnrolled, kRound = kThreads * kUnrolled;
    const Expr positions = op.scores.dim(0).extent();
    const Var &t = op.t, &w = op.w;
    level.taken(t, x, w, r, b) = op.keys(min(w * kRound + x * kThreads + t, positions - 1), r, b);
    // By 16 bits, of which Halide's bounds know the range.
    const int from = std::min(shift, 16);
    level.digit(t, x, w, r, b) = cast<int>((cast<uint16_t>(level.taken(t, x, w, r, b) >> from) >> (shift - from)) & cast<uint16_t>(bins - 1));
    level.items = RDom(0, kThreads, 0, kUnrolled, 0, (positions + kRound - 1) / kRound, named("items"));
    const RVar thread = level.items.x, item = level.items.y, round = level.items.z;
    level.items.where(round * kRound + item * kThreads + thread < positions);
    if (shift + bits < 32) {
        level.items.where(level.taken(thread, item, round, r, b) >> (shift + bits) == prefix >> (shift + bits));
    }
    level.histogram(x, r, b) = 0;
    level.histogram(level.digit(thread, item, round, r, b), r, b) += 1;

    const auto histogram = [&](const Expr &bin) { return level.histogram(unsafe_promise_clamped(bin, 0, bins - 1), r, b); };
    level.group_sum(s, r, b) = 0;
    // Each group begins elsewhere, so that threads of different groups read different banks.
    level.group_sum(s, r, b) += histogram(s * kWord + (level.group_bins + s) % kWord);
    level.groups(s, r, b) = level.group_sum(s, r, b);
    level.later_groups.where(level.later_groups > s);
    level.above_sum(s, r, b) = 0;
    level.above_sum(s, r, b) += level.groups(level.later_groups, r, b);
    level.above(s, r, b) = level.above_sum(s, r, b);

    const Expr before = level.above(level.group_choice, r, b);
    level.group_choice.where(before < wanted && wanted <= before + level.groups(level.group_choice, r, b));
    // One of them is it: at least as many keys as are wanted have the prefix.
    level.group(r, b) = Tuple(undef<int>(), undef<int>());
    level.group(r, b) = Tuple(level.group_choice, before);

    const Expr first = clamp(level.group(r, b)[0], 0, groups - 1) * kWord;
    level.later_bins.where(level.later_bins > x);
    level.bin_above_sum(x, r, b) = level.group(r, b)[1];
    level.bin_above_sum(x, r, b) += histogram(first + level.later_bins);
    level.bin_above(x, r, b) = level.bin_above_sum(x, r, b);
    const Expr above_bin = level.bin_above(level.bin_choice, r, b);
    level.bin_choice.where(above_bin < wanted && wanted <= above_bin + histogram(first + level.bin_choice));
    level.found(r, b) = Tuple(undef<uint32_t>(), undef<int>());
    level.found(r, b) = Tuple(prefix | (u32(first + level.bin_choice) << shift), wanted - above_bin);
    op.levels.push_back(level);
    return level.found;
}

Tuple counted(const Tuple &bits) {
    return {cast<int>(popcount(bits[0])), cast<int>(popcount(bits[1]))};
}

void define_places(SelectTokensGpu &op, const Func &found) {
    const Var &w = op.w, &i = op.i, &t = op.t, &s = op.s, &r = op.r, &b = op.b;
    const Expr positions = op.scores.dim(0).extent();
    op.words = (positions + kWord - 1) / kWord;
    op.chunk_words = (op.words + kChunks - 1) / kChunks;

    op.lanes = RDom(0, kWord, "lanes");
    const Expr position = w * kWord + op.lanes, key = op.keys(min(position, positions - 1), r, b);
    const Expr threshold = found(r, b)[0], inside = position < positions;
    op.bits(w, r, b) = {undef<uint32_t>(), undef<uint32_t>()};
    op.bits(w, r, b) = {warp_ballot(inside && key > threshold) + u32(op.lanes) * u32(0), warp_ballot(inside && key == threshold)};

    const auto plus = [](const Tuple &a, const Tuple &c) { return Tuple(a[0] + c[0], a[1] + c[1]); };
    op.chunk_items = RDom(0, op.chunk_words, "chunk_items");
    op.chunk_items.where(t * op.chunk_words + op.chunk_items < op.words);
    op.count_sum(t, r, b) = Tuple(0, 0);
    op.count_sum(t, r, b) = plus(op.count_sum(t, r, b), counted(op.bits(min(t * op.chunk_words + op.chunk_items, op.words - 1), r, b)));
    op.counts(t, r, b) = op.count_sum(t, r, b);
    op.section_chunks = RDom(0, kSection, "section_chunks");
    op.section_sum(s, r, b) = Tuple(0, 0);
    op.section_sum(s, r, b) = plus(op.section_sum(s, r, b), op.counts(s * kSection + (op.section_chunks + s) % kSection, r, b));
    op.sections(s, r, b) = op.section_sum(s, r, b);
    op.earlier_sections = RDom(0, kSection, "earlier_sections");
    op.earlier_sections.where(op.earlier_sections < s);
    op.section_base_sum(s, r, b) = Tuple(0, 0);
    op.section_base_sum(s, r, b) = plus(op.section_base_sum(s, r, b), op.sections(op.earlier_sections, r, b));
    op.section_base(s, r, b) = op.section_base_sum(s, r, b);
    op.earlier_chunks = RDom(0, kSection, "earlier_chunks");
    op.earlier_chunks.where(op.earlier_chunks < t % kSection);
    op.chunk_base(t, r, b) = op.section_base(t / kSection, r, b);
    op.chunk_base(t, r, b) = plus(op.chunk_base(t, r, b), op.counts(t / kSection * kSection + op.earlier_chunks, r, b));

    op.word_steps = RDom(1, max(op.chunk_words - 1, 0), "word_steps");
    op.base(i, t, r, b) = op.chunk_base(t, r, b);
    const Expr before = min(t * op.chunk_words + op.word_steps - 1, op.words - 1);
    op.base(op.word_steps, t, r, b) = plus(op.base(op.word_steps - 1, t, r, b), counted(op.bits(before, r, b)));
}

struct Place {
    Expr position, selected, slot;
};

// Of the positions, lane by lane of word by word.
Place define_positions(SelectTokensGpu &op, const Func &found) {
    const Var &r = op.r, &b = op.b;
    op.positions = RDom(0, kWord, 0, op.words, "positions");
    const RVar lane = op.positions.x, word = op.positions.y;
    const Expr bit = u32(1) << u32(lane), lower = bit - u32(1), equal_wanted = found(r, b)[1];
    const Expr larger = op.bits(word, r, b)[0], equal = op.bits(word, r, b)[1];
    const Expr chunk = clamp(word / op.chunk_words, 0, kChunks - 1), in_chunk = clamp(word % op.chunk_words, 0, op.chunk_words - 1);
    const Expr larger_before = op.base(in_chunk, chunk, r, b)[0] + cast<int>(popcount(larger & lower));
    const Expr equal_before = op.base(in_chunk, chunk, r, b)[1] + cast<int>(popcount(equal & lower));
    const Expr selected = (larger & bit) != u32(0) || ((equal & bit) != u32(0) && equal_before < equal_wanted);
    return {word * kWord + lane, selected, unsafe_promise_clamped(larger_before + min(equal_before, equal_wanted), 0, op.k - 1)};
}

// Joined so that the best comes first: the key's complement, then the position.
void define_ranking(SelectTokensGpu &op, const Place &place) {
    const Var &j = op.j, &s = op.s, &r = op.r, &b = op.b;
    const Expr log2 = 32 - cast<int>(count_leading_zeros(u32(max(op.k - 1, 1))));
    op.padded = 1 << log2;
    const Expr last = op.scores.dim(0).extent() - 1;
    const Expr joined = cast<uint64_t>(~op.keys(min(place.position, last), r, b)) << 32 | cast<uint64_t>(place.position);
    op.sorted(j, s, r, b) = ~cast<uint64_t>(0);
    op.sorted(place.slot, 0, r, b) = joined;

    op.exchanges = RDom(0, op.padded, 0, log2 * (log2 + 1) / 2, "exchanges");
    const Expr item = op.exchanges.x, number = op.exchanges.y;
    // Stage p has steps of distance 2^p, 2^(p - 1), ..., 1; p (p + 1) / 2 steps come before it.
    const auto stage_of = [](const Expr &step) { return cast<int>((sqrt(cast<float>(8 * step) + 1.5f) - 1.f) * 0.5f); };
    Var q("q");
    op.step(q, r, b) = {1 << (stage_of(q) - (q - stage_of(q) * (stage_of(q) + 1) / 2)), 2 << stage_of(q)};
    const Expr distance = op.step(number, r, b)[0], size = op.step(number, r, b)[1];
    const Expr mine = op.sorted(item, number % 2, r, b), other = op.sorted(unsafe_promise_clamped(item ^ distance, 0, op.padded - 1), number % 2, r, b);
    const Expr smaller = ((item & size) == 0) == ((item & distance) == 0);
    op.sorted(item, (number + 1) % 2, r, b) = select(smaller, min(mine, other), max(mine, other));
    op.indices(j, r, b) = cast<int>(op.sorted(j, log2 * (log2 + 1) / 2 % 2, r, b) & cast<uint64_t>(0x7fffffff)) + op.offset;
}

}  // namespace

SelectTokensGpu make_select_tokens_gpu(Type, const Values &statics) {
    SelectTokensGpu op;
    op.rank = statics("rank") != 0;
    define_keys(op);
    Func found = define_level(op, 21, 11, u32(0), op.k);
    found = define_level(op, 10, 11, found(op.r, op.b)[0], found(op.r, op.b)[1]);
    found = define_level(op, 0, 10, found(op.r, op.b)[0], found(op.r, op.b)[1]);
    define_places(op, found);
    const Place place = define_positions(op, found);
    op.positions.where(place.selected);
    if (op.rank) {
        define_ranking(op, place);
    } else {
        op.indices(op.j, op.r, op.b) = undef<int>();
        op.indices(place.slot, op.r, op.b) = place.position + op.offset;
    }
    allow_any_stride(op.mask);
    op.mask.dim(0).set_bounds(0, op.scores.dim(0).extent());
    auto out = op.indices.output_buffer();
    out.dim(0).set_bounds(0, op.k);
    out.dim(1).set_bounds(0, op.scores.dim(1).extent());
    out.dim(2).set_bounds(0, op.scores.dim(2).extent());
    return op;
}

std::vector<Argument> SelectTokensGpu::arguments() const {
    return {scores, mask, k, offset};
}

std::vector<Func> SelectTokensGpu::outputs() const {
    return {indices};
}

MOA_OPERATION(SelectTokensGpu, "select_tokens", make_select_tokens_gpu);

}  // namespace moa
