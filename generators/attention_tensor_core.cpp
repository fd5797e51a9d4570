#include "generators/attention_tensor_core.h"

#include "generators/math.h"
#include "generators/tensor_core/fragment.h"

namespace moa {

using namespace Halide;
using namespace moa::tensor_core;

std::vector<Argument> AttentionTensorCore::arguments() const {
    return {q, k, v, mask, null_key, null_value, scale, has_null};
}

std::vector<Func> AttentionTensorCore::outputs() const {
    return {out};
}

namespace {

constexpr float kMasked = -0x1p100f, kBeyond = -0x1p101f;

Expr larger(Expr a, Expr b) {
    return maximum(a, b);
}
Expr plus(Expr a, Expr b) {
    return a + b;
}

// Where the output's channels are: 16-bit values are transposed as they are loaded, in neighbouring columns; f32 ones are
// loaded four neighbours at once, which are columns of four tiles.
Expr channel_of(Input input, const Expr &slot, const Expr &n) {
    return input == Input::tf32 ? slot / 4 * 32 + n * 4 + slot % 4 : slot * kTileColumns + n;
}
Place place_of_channel(Input input, const Expr &row, const Expr &d) {
    const Expr lane_row = row % 8 * 4, half = row % kTileRows / 8;
    if (input == Input::tf32) {
        return {lane_row + d % 32 / 8, d / 32 * 4 + d % 4, half * 2 + d % 8 / 4};
    }
    return {lane_row + d % 8 / 2, d / kTileColumns, half * 2 + d % 2};
}

Expr query_row(const AttentionTensorCore &a, const Expr &y) {
    return min(a.query_tile * a.rows_of_block() + y, a.q.dim(1).extent() - 1);
}
Expr row_of_tile(const AttentionTensorCore &a, const Expr &row) {
    return a.warp * a.rows_of_warp() + a.mt * kTileRows + row;
}

void define_tiles(AttentionTensorCore &a) {
    const Var &element = a.element, &place = a.place, &y = a.y, &h = a.h, &e = a.e, &b = a.b;
    const int elements = kCopyBytes / a.q.type().bytes();
    const Expr channel = place_of_chunk(place, y, a.chunks()) * elements + element;
    a.q_tile(element, place, y, a.query_tile, h, e, b) = bits_of(a.q(channel, query_row(a, y), h, e, b));
    // Part i is word t + 4 (i / 2) of row g + 8 (i % 2).
    const Expr word_of_row = a.product * kWordsOfProduct + a.part / 2 * kWordsOfCopy + member_of(a.lane);
    const Expr row = query_row(a, row_of_tile(a, group_of(a.lane) + a.part % 2 * 8));
    const Expr bits = word(a.q(word_of_row * elements_of_word(a.input), row, h, e, b));
    a.q_words(a.part, a.product, a.lane, a.warp, a.mt, a.query_tile, h, e, b) = a.input == Input::tf32 ? round_tf32(bits) : bits;
    // Tiles past the end are asked for ahead but not used.
    const Expr num_keys = a.k.dim(1).extent();
    const Expr key = min(min(a.key_tile, (num_keys - 1) / a.keys) * a.keys + y, num_keys - 1);
    a.k_tile(element, place, y, a.key_tile, h, e, b) = bits_of(a.k(channel, key, h, e, b));
    a.v_tile(element, place, y, a.key_tile, h, e, b) = bits_of(a.v(channel, key, h, e, b));
}

void define_scores(AttentionTensorCore &a, bool masked) {
    const Var &lane = a.lane, &warp = a.warp, &nt = a.nt, &mt = a.mt, &key_tile = a.key_tile, &query_tile = a.query_tile, &h = a.h, &e = a.e, &b = a.b;
    const Expr num_keys = a.k.dim(1).extent(), t = member_of(lane);
    a.score_steps = RDom(0, 2, 0, a.products() / 2, "score_steps");
    const RVar product = a.score_steps.x, pair = a.score_steps.y;
    a.score(lane, warp, nt, mt, key_tile, query_tile, h, e, b) = Tuple(0.f, 0.f, 0.f, 0.f);
    const FuncRef c = a.score(lane, warp, nt, mt, key_tile, query_tile, h, e, b);
    const std::vector<Expr> own = {c[0], c[1], c[2], c[3]};
    const auto rounded = [&](const Expr &w) { return a.input == Input::tf32 ? round_tf32(w) : w; };
    const Expr key_row = nt * kTileColumns + row_of_b(lane), key_place = place_of_chunk(pair * kChunksOfPair + chunk_of_b(lane), key_row, a.chunks());
    const auto key_at = [&](const Expr &tile) { return a.k_tile(0, key_place, key_row, tile, h, e, b); };
    const Expr query_row = row_of_tile(a, row_of_a(lane)), query_place = place_of_chunk((pair * 2 + product) * kChunksOfProduct + chunk_of_a(lane), query_row, a.chunks());
    std::vector<Expr> query, key;
    for (int i = 0; i < 4; i++) {
        const Expr shared = a.q_tile(0, query_place, query_row, query_tile, h, e, b);
        query.push_back(a.queries_shared ? rounded(load_matrix(word(shared), i)) : Expr(a.q_words(i, pair * 2 + product, lane, warp, mt, query_tile, h, e, b)));
    }
    for (int i = 0; i < 2; i++) {
        key.push_back(rounded(load_matrix(word(key_at(key_tile)), product * 2 + i)));
    }
    // Both tiles are asked for ahead in the first stage of the loop: all copies must come before all reads.
    const Expr later = key_tile + a.stages - 1;
    a.score(lane, warp, nt, mt, key_tile, query_tile, h, e, b) =
        with_sight_of(multiply_add(a.input, query, key, own), own, {key_at(later), a.v_tile(0, 0, 0, later, h, e, b)});

    // A bit a key of the tile, the same for all lanes.
    constexpr int kBits = 32;
    std::vector<Expr> bits;
    for (int first = 0; first < a.keys; first += kBits) {
        const Expr one = key_tile * a.keys + first + lane;
        const Expr in_range = one < num_keys;
        bits.push_back(masked ? ballot(in_range && a.mask(min(one, num_keys - 1), e, b) != 0) : cast<uint32_t>(0) - cast<uint32_t>(key_tile * a.keys + a.keys <= num_keys));
    }
    a.valid(lane, warp, key_tile, e, b) = Tuple(bits);
    std::vector<Expr> words;
    for (size_t i = 0; i < bits.size(); i++) {
        const FuncRef valid = a.valid(lane, warp, key_tile, e, b);
        words.push_back(bits.size() == 1 ? Expr(valid) : Expr(valid[static_cast<int>(i)]));
    }
    Expr all = words[0];
    for (size_t i = 1; i < words.size(); i++) {
        all = all & words[i];
    }
    a.hide = RDom(0, 1, "hide");
    a.hide.where(all != UInt(32).max());
    const Expr word_of_keys = words.size() == 1 ? words[0] : mux(nt / (kBits / kTileColumns), words);
    std::vector<Expr> shown;
    for (int i = 0; i < 4; i++) {
        const Expr in_tile = nt * kTileColumns + 2 * t + i % 2, one = key_tile * a.keys + in_tile;
        const Expr bit = (word_of_keys >> cast<uint32_t>(nt % (kBits / kTileColumns) * kTileColumns + 2 * t + i % 2)) & 1;
        shown.push_back(masked ? select(bit != 0, Expr(c[i]), one < num_keys, kMasked, kBeyond) : select(one < num_keys, Expr(c[i]), kBeyond));
        // Else LLVM would select instead of branching, in every tile.
        shown.back() = pinned(shown.back() + 0.f * cast<float>(a.hide.x));
    }
    a.score(lane, warp, nt, mt, key_tile, query_tile, h, e, b) = Tuple(shown);

    std::vector<Expr> maxima;
    for (int row_half = 0; row_half < 2; row_half++) {
        Expr most;
        for (int tile = 0; tile < a.keys / kTileColumns; tile++) {
            const FuncRef s = a.score(lane, warp, tile, mt, key_tile, query_tile, h, e, b);
            const Expr both = maximum(s[2 * row_half], s[2 * row_half + 1]);
            most = tile == 0 ? both : maximum(most, both);
        }
        maxima.push_back(across_lanes(most, larger));
    }
    a.top(lane, warp, mt, key_tile, query_tile, h, e, b) = Tuple(maxima);
}

// The score of the null key is a plain sum in f32: it is one column, and its key is not rounded.
void define_null(AttentionTensorCore &a) {
    const Var &lane = a.lane, &warp = a.warp, &mt = a.mt, &query_tile = a.query_tile, &h = a.h, &e = a.e, &b = a.b;
    a.null_channels = RDom(0, a.head_dim / 4, "null_channels");
    const Expr channel = member_of(lane) * (a.head_dim / 4) + a.null_channels;
    const Expr row = query_row(a, row_of_tile(a, group_of(lane) + 8 * a.half));
    a.null_part(lane, warp, a.half, mt, query_tile, h, e, b) = 0.f;
    a.null_part(lane, warp, a.half, mt, query_tile, h, e, b) += widen(a.q(channel, row, h, e, b)) * a.null_key(channel, h, e);
    const auto whole = [&](int row_half) { return pinned(across_lanes(a.null_part(lane, warp, row_half, mt, query_tile, h, e, b), plus)); };
    a.null_score(lane, warp, mt, query_tile, h, e, b) = {whole(0), whole(1)};
}

// The operands of the products of weights and values. Sums of scores are in the places that the first operand asks for: two
// tiles of 16-bit weights in pairs, or one tile of f32 ones, whose second column then is the products' word t + 4.
struct Operands {
    std::vector<Expr> weights, values;
};

template<class Weight>
Operands operands_of(const AttentionTensorCore &a, const Expr &product, const Expr &slot, const Expr &key_tile, Weight weight) {
    const Var &h = a.h, &e = a.e, &b = a.b;
    const Expr g = group_of(a.lane), t = member_of(a.lane);
    if (a.input == Input::tf32) {
        const auto bits = [&](int i) { return round_tf32(reinterpret<uint32_t>(weight(product, i))); };
        const auto value = [&](int second) {
            const Expr row = product * kTileColumns + 2 * t + second;
            const Expr first = a.v_tile(0, place_of_chunk(slot / 4 * 8 + g, row, a.chunks()), row, key_tile, h, e, b);
            return round_tf32(load_word(word(first), slot % 4));
        };
        return {{bits(0), bits(2), bits(1), bits(3)}, {value(0), value(1)}};
    }
    const auto pair = [&](const Expr &tile, int row_half) { return pack(a.input, weight(tile, 2 * row_half), weight(tile, 2 * row_half + 1)); };
    // Two tiles of columns at once: a matrix for each half of the 16 keys and each of the two.
    const Expr row = product * 16 + a.lane % 16;
    const Expr first = a.v_tile(0, place_of_chunk(slot / 2 * 2 + a.lane / 16, row, a.chunks()), row, key_tile, h, e, b);
    const auto value = [&](int second) { return load_matrix_transposed(word(first), slot % 2 * 2 + second); };
    return {{pair(2 * product, 0), pair(2 * product, 1), pair(2 * product + 1, 0), pair(2 * product + 1, 1)}, {value(0), value(1)}};
}

// Slots 0.. are the output's tiles of columns; the last holds the running sums and maxima of the lane's two rows. The slots
// go in order, so that the last still has the old maxima when the others are scaled.
void define_sums(AttentionTensorCore &a) {
    const Var &lane = a.lane, &warp = a.warp, &mt = a.mt, &slot = a.slot, &query_tile = a.query_tile, &h = a.h, &e = a.e, &b = a.b;
    const int outputs = a.head_dim / kTileColumns, tiles = a.keys / kTileColumns, products = a.input == Input::tf32 ? tiles : tiles / 2;
    const Expr num_keys = a.k.dim(1).extent(), log2_scale = a.scale * 1.4426950408889634f;
    const Expr null = a.has_null != 0, t = member_of(lane);
    const FuncRef null_score = a.null_score(lane, warp, mt, query_tile, h, e, b);
    std::vector<Expr> first;
    for (int i = 0; i < 4; i++) {
        const Expr statistic = i < 2 ? select(null && t == 0, 1.f, 0.f) : select(null, Expr(null_score[i - 2]), kBeyond);
        const Expr channel = channel_of(a.input, min(slot, outputs - 1), 2 * t + i % 2);
        first.push_back(select(slot < outputs, select(null, a.null_value(channel, h, e), 0.f), statistic));
    }
    a.sums(lane, warp, slot, mt, query_tile, h, e, b) = Tuple(first);

    a.steps = RDom(0, products, 0, outputs + 1, 0, (num_keys + a.keys - 1) / a.keys, "steps");
    const RVar product = a.steps.x, column = a.steps.y, key_tile = a.steps.z;
    const FuncRef c = a.sums(lane, warp, column, mt, query_tile, h, e, b), statistics = a.sums(lane, warp, outputs, mt, query_tile, h, e, b);
    const FuncRef top = a.top(lane, warp, mt, key_tile, query_tile, h, e, b);
    Expr top_of[2], base[2], shrink[2], sum[2];
    for (int row_half = 0; row_half < 2; row_half++) {
        const Expr old = statistics[2 + row_half];
        top_of[row_half] = maximum(old, top[row_half]);
        base[row_half] = top_of[row_half] * log2_scale;
        shrink[row_half] = exp2_approx(fused_multiply_add(old, log2_scale, -base[row_half]));
    }
    const auto weight = [&](const Expr &tile, int i) {
        return exp2_approx(fused_multiply_add(a.score(lane, warp, tile, mt, key_tile, query_tile, h, e, b)[i], log2_scale, -base[i / 2]));
    };
    for (int row_half = 0; row_half < 2; row_half++) {
        sum[row_half] = 0.f;
        for (int tile = 0; tile < tiles; tile++) {
            sum[row_half] += weight(tile, 2 * row_half) + weight(tile, 2 * row_half + 1);
        }
    }
    const Operands operands = operands_of(a, product, min(column, outputs - 1), key_tile, weight);
    std::vector<Expr> scaled, value;
    for (int i = 0; i < 4; i++) {
        scaled.push_back(select(product == 0, Expr(c[i]) * shrink[i / 2], Expr(c[i])));
    }
    const std::vector<Expr> mixed = multiply_add(a.input, operands.weights, operands.values, scaled);
    const Expr kept[4] = {Expr(statistics[0]) * shrink[0] + sum[0], Expr(statistics[1]) * shrink[1] + sum[1], top_of[0], top_of[1]};
    for (int i = 0; i < 4; i++) {
        value.push_back(select(column < outputs, mixed[i], product == products - 1, kept[i], Expr(c[i])));
    }
    a.sums(lane, warp, column, mt, query_tile, h, e, b) = with_sight_of(value, {c[0], c[1], c[2], c[3]});

    const FuncRef last = a.sums(lane, warp, outputs, mt, query_tile, h, e, b);
    a.inverse(lane, warp, mt, query_tile, h, e, b) = {pinned(1.f / across_lanes(last[0], plus)), pinned(1.f / across_lanes(last[1], plus))};
}

void define_out(AttentionTensorCore &a, Type storage) {
    const Var &d = a.d, &i = a.i, &h = a.h, &e = a.e, &b = a.b;
    const Expr row = i % a.rows_of_block(), query_tile = i / a.rows_of_block(), warp = row / a.rows_of_warp(), mt = row % a.rows_of_warp() / kTileRows;
    const Place place = place_of_channel(a.input, row, d);
    const FuncRef factor = a.inverse(place.lane, warp, mt, query_tile, h, e, b);
    const Expr sum = component(a.sums(place.lane, warp, place.tile, mt, query_tile, h, e, b), place.component);
    a.out(d, i, h, e, b) = round_to(storage, sum * select(row % kTileRows < 8, Expr(factor[0]), Expr(factor[1])));
}

}  // namespace

AttentionTensorCore make_attention_tensor_core(Type storage, const Values &values) {
    AttentionTensorCore a;
    a.input = input_of(storage);
    a.head_dim = values("head_dim");
    a.keys = values("keys");
    a.warps = values("warps");
    a.tiles = values("tiles");
    a.stages = values("stages");
    a.q = ImageParam(storage, 5, "q");
    a.k = ImageParam(storage, 5, "k");
    a.v = ImageParam(storage, 5, "v");
    allow_any_stride(a.mask, a.null_key, a.null_value);
    a.queries_shared = values.get("queries_shared", 0) != 0;
    define_tiles(a);
    define_scores(a, values.get("masked", 1) != 0);
    define_null(a);
    define_sums(a);
    define_out(a, storage);
    begin_at_zero(a.out);
    return a;
}

MOA_OPERATION(AttentionTensorCore, "attention", make_attention_tensor_core);

}  // namespace moa
