#include "generators/finite.h"
#include "generators/tensor_core/attention_tile.h"

// Rows of attention that are computed again, by the definition and in f32: a lane does so for its channels of its rows, key by key, from
// the inputs. It is slow, and for what is rare: values of hidden keys that are not finite, scores so large that the rounding of their
// maximum counts, and rows without any visible key.
namespace moa::tensor_core {

using namespace Halide;

namespace {

// Maxima beyond are rounded by more than weights of f16 can bear.
constexpr float kLargestMaximum = 0x1p26f;

// Differences are scaled, not scores: what rounding a scaled score leaves may be as large as weights can bear and more, and where the
// compiler fuses scaling with the subtraction, that is the exponent of the largest score.
Expr weight_of(const Expr &score, const Expr &most, const Expr &log2_scale) {
    return exp2_approx((score - most) * log2_scale);
}

}  // namespace

// A sum of weights that is NaN comes from visible keys alone, whose scores are NaN or infinite: then the row is NaN.
void AttentionTile::define_wanted_again() {
    Expr rows = cast<uint32_t>(0);
    for (int tile = 0; tile < tiles; tile++) {
        const FuncRef last = at_queries(sums, {lane, warp, outputs(), tile}), factor = at_queries(inverse, {lane, warp, tile});
        for (int row_half = 0; row_half < 2; row_half++) {
            Expr poison = 0.f;  // NaN, if any of the sums is not finite
            for (int of_slot = 0; of_slot < outputs(); of_slot++) {
                const FuncRef c = at_queries(sums, {lane, warp, of_slot, tile});
                poison = fused_multiply_add(c[2 * row_half + 1], 0.f, fused_multiply_add(c[2 * row_half], 0.f, poison));
            }
            const Expr large = magnitude_bits(last[2 + row_half]) > bits_of_f32(kLargestMaximum);
            const Expr wanted = (large || is_nan_bits(poison)) && !is_nan_bits(factor[row_half]);
            rows = rows | select(wanted, cast<uint32_t>(1 << (2 * tile + row_half)), cast<uint32_t>(0));
        }
    }
    at_queries(wanted_again, {lane, warp}) = rows;
}

// Scores are 16 bytes of a row at a time.
void AttentionTile::define_softmax_again(const Again &again) {
    const int of_word = elements_of_word(input), of_chunk = kWordsOfCopy * of_word;
    const auto chunk = [&](const Expr &first_element, const Expr &element) {
        return unpack(first_element.type(), load_word(word(first_element), element / of_word), element % of_word);
    };
    for (int pass = 0; pass < 2; pass++) {
        const RDom &channels = again_channels[pass] = RDom(0, of_chunk, 0, row_chunks(), "again_channels_" + std::to_string(pass));
        const Expr first = channels.y * of_chunk;
        const std::vector<Expr> here = {key, half, mt, lane, warp};
        at_queries(score_again[pass], here) = 0.f;
        at_queries(score_again[pass], here) += chunk(again.query(first, row_again(half)), channels.x) * chunk(again.key(first, key), channels.x);
    }
    const std::vector<Expr> here = own_again();
    const bool may_be_null = again.has_null.defined();
    if (may_be_null) {
        const RDom &channels = again_channels[2] = RDom(0, of_chunk, 0, row_chunks(), "again_channels_null");
        const Expr first = channels.y * of_chunk;
        at_queries(null_again, here) = only_if(any_again(), 0.f);
        at_queries(null_again, here) += chunk(again.query(first, row_again(half)), channels.x) * again.null_key(first + channels.x);
    }
    const Expr null = may_be_null ? again.has_null : Internal::const_false();
    // Maximum before scaling, sum, and whether there is any visible key.
    const Expr null_score = may_be_null ? Expr(at_queries(null_again, here)) : Expr(0.f), null_maximum = maximum(null_score, kNothing);
    at_queries(softmax_again, here) =
        Tuple(only_if(any_again(), select(null, null_maximum, kNothing)), select(null, weight_of(null_score, null_maximum, again.log2_scale), 0.f), select(null, 1, 0));
    again_keys[0] = RDom(0, again.keys, "again_keys_0");
    const RVar at = again_keys[0].x;
    const FuncRef old = at_queries(softmax_again, here);
    // Not to be understood by Halide, which would shorten the loop and lose sight of how much each step needs.
    again_keys[0].where(again.visible(row_again(half), at) || old[2] < 0);
    const Expr score = at_queries(score_again[0], {at, half, mt, lane, warp}), most = maximum(old[0], score);
    const Expr sum = old[1] * weight_of(old[0], most, again.log2_scale) + weight_of(score, most, again.log2_scale);
    at_queries(softmax_again, here) = with_sight_of({most, sum, 1}, {old[0], old[1], old[2]});
}

void AttentionTile::define_result(const Again &again) {
    define_wanted_again();
    define_softmax_again(again);
    const std::vector<Expr> here = own_again();
    const FuncRef softmax = at_queries(softmax_again, here);
    const Expr some = softmax[2] != 0, sum = again.more ? softmax[1] + again.more(row_again(half), softmax[0] * again.log2_scale) : Expr(softmax[1]);
    // All keys weigh the same where none is visible.
    again_keys[1] = RDom(0, again.keys, "again_keys_1");
    const RVar at = again_keys[1].x;
    again_keys[1].where(!some || again.visible(row_again(half), at));
    const Expr score = at_queries(score_again[1], {at, half, mt, lane, warp});
    const Expr weight = select(some, weight_of(score, softmax[0], again.log2_scale) / sum, 1.f / cast<float>(again.keys));
    const Expr channel = channel_of(slot, 2 * member_of(lane) + (input == Input::tf32 ? Expr(pair) : Expr(0)));
    const Expr stored = again.value(channel, at), value = unpack(stored.type(), word(stored), pair);
    std::vector<Expr> own = {pair, slot};
    own.insert(own.end(), here.begin(), here.end());
    Expr first = 0.f;
    if (again.has_null.defined()) {
        const Expr null_weight = weight_of(at_queries(null_again, here), softmax[0], again.log2_scale) / sum;
        first = select(again.has_null, null_weight * again.null_value(channel_of(slot, 2 * member_of(lane) + pair)), 0.f);
    }
    at_queries(mix_again, own) = only_if(any_again(), first);
    at_queries(mix_again, own) += weight * value;

    const FuncRef whole = at_queries(sums, {lane, warp, slot, mt}), factor = at_queries(inverse, {lane, warp, mt});
    std::vector<Expr> products, chosen;
    for (int i = 0; i < 4; i++) {
        products.push_back(Expr(whole[i]) * Expr(factor[i / 2]));
    }
    at_queries(result, {lane, warp, slot, mt}) = Tuple(products);
    const FuncRef c = at_queries(result, {lane, warp, slot, mt});
    const Expr rows = at_queries(wanted_again, {lane, warp});
    once = RDom(0, 1, "once");
    once.where(any_again());
    for (int i = 0; i < 4; i++) {
        const Expr wanted = (rows >> cast<uint32_t>(2 * mt + i / 2) & cast<uint32_t>(1)) != cast<uint32_t>(0);
        const Expr anew = at_queries(mix_again, {i % 2, slot, i / 2, mt, lane, warp});
        // Pinned: else LLVM would select instead of branching.
        chosen.push_back(pinned(select_bits(wanted, anew, c[i]) + 0.f * cast<float>(once.x)));
    }
    at_queries(result, {lane, warp, slot, mt}) = with_sight_of(chosen, {c[0], c[1], c[2], c[3]});
}

}  // namespace moa::tensor_core
