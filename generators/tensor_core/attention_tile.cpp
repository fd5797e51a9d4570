#include "generators/tensor_core/attention_tile.h"

namespace moa::tensor_core {

using namespace Halide;

Expr larger(const Expr &a, const Expr &b) {
    return maximum(a, b);
}
Expr plus(const Expr &a, const Expr &b) {
    return a + b;
}

namespace {

FuncRef call(const Func &f, std::vector<Expr> own, const std::vector<Var> &last) {
    own.insert(own.end(), last.begin(), last.end());
    return f(own);
}

}  // namespace

FuncRef AttentionTile::at_queries(const Func &f, std::vector<Expr> own) const {
    return call(f, std::move(own), of_queries);
}
FuncRef AttentionTile::at_keys(const Func &f, std::vector<Expr> own) const {
    return call(f, std::move(own), of_keys);
}

void AttentionTile::read(Type storage, const Values &values) {
    input = input_of(storage);
    head_dim = values("head_dim");
    keys = values("keys");
    warps = values("warps");
    tiles = values("tiles");
    stages = values("stages");
    queries_shared = values.get("queries_shared", 0) != 0;
    warpgroups = values.get("warpgroups", 0) != 0;
    copies_last = values.get("copies_last", 0) != 0;
    if (warpgroups && (input == Input::tf32 || tiles != 1 || warps % kWarpsOfGroup != 0)) {
        throw std::runtime_error("warpgroups of four warps, of one tile of 16 queries each, multiply bf16 and f16");
    }
}

// Where the output's channels are: 16-bit values are transposed as they are loaded, in neighbouring columns; f32 ones are
// loaded four neighbours at once, which are columns of four tiles.
Expr AttentionTile::channel_of(const Expr &slot, const Expr &n) const {
    return input == Input::tf32 ? slot / 4 * 32 + n * 4 + slot % 4 : slot * kTileColumns + n;
}
Place AttentionTile::place_of_channel(const Expr &row, const Expr &d) const {
    const Expr lane_row = row % 8 * 4, half = row % kTileRows / 8;
    if (input == Input::tf32) {
        return {lane_row + d % 32 / 8, d / 32 * 4 + d % 4, half * 2 + d % 8 / 4};
    }
    return {lane_row + d % 8 / 2, d / kTileColumns, half * 2 + d % 2};
}

// What a tile of `rows` rows has at (element, place, y).
Expr AttentionTile::channel_in_tile(int rows) const {
    const Expr chunk = place_of_chunk(place, y, chunks()), first = parts() == 1 ? chunk : y / rows * chunks() + chunk;
    return first * (kWordsOfCopy * elements_of_word(input)) + element;
}

void AttentionTile::define_queries(const Element &query) {
    const auto row_in = [&](int rows) { return parts() == 1 ? Expr(y) : y % rows; };
    at_queries(q_tile, {element, place, y}) = bits_of(query(channel_in_tile(rows_of_block()), row_in(rows_of_block())));
    // Part i is word t + 4 (i / 2) of row g + 8 (i % 2).
    const Expr word_of_row = product * kWordsOfProduct + part / 2 * kWordsOfCopy + member_of(lane);
    const Expr bits = word(query(word_of_row * elements_of_word(input), row_of_tile(group_of(lane) + part % 2 * 8)));
    at_queries(q_words, {part, product, lane, warp, mt}) = input == Input::tf32 ? round_tf32(bits) : bits;
}

void AttentionTile::define_keys(const Element &key, const Element &value) {
    const Expr row = parts() == 1 ? Expr(y) : y % keys;
    at_keys(k_tile, {element, place, y, key_tile}) = bits_of(key(channel_in_tile(keys), row));
    at_keys(v_tile, {element, place, y, key_tile}) = bits_of(value(channel_in_tile(keys), row));
}

WarpgroupTile AttentionTile::tile_at(const Expr &first_element, int rows) const {
    return {word(first_element), chunks() * kCopyBytes, parts(), rows * chunks() * kCopyBytes};
}

void AttentionTile::define_group_products() {
    const WarpgroupSums scores{kScores, keys};
    const auto key_at = [&](const Expr &tile) { return at_keys(k_tile, {0, 0, 0, tile}); };
    const Expr query = at_queries(q_tile, {0, 0, warp / kWarpsOfGroup * kRowsOfGroup}), later = key_tile + stages - 1;
    const Expr product = multiply_add_tiles(input, scores, 0, tile_at(query, rows_of_block()), tile_at(key_at(key_tile), keys), true);
    at_queries(score_group, {lane, warp, key_tile}) = with_sight_of({copies_last ? before_copies(product) : product}, {}, {key_at(later), at_keys(v_tile, {0, 0, 0, later})})[0];
    at_queries(score, {lane, warp, nt, mt, key_tile}) = Tuple(fragment_at(scores, at_queries(score_group, {lane, warp, key_tile}), nt));
}

void AttentionTile::define_products() {
    if (warpgroups) {
        define_group_products();
        return;
    }
    score_steps = RDom(0, 2, 0, products() / 2, "score_steps");
    const RVar of_pair = score_steps.x, pair = score_steps.y;
    const std::vector<Expr> here = {lane, warp, nt, mt, key_tile};
    at_queries(score, here) = Tuple(0.f, 0.f, 0.f, 0.f);
    const FuncRef c = at_queries(score, here);
    const std::vector<Expr> own = {c[0], c[1], c[2], c[3]};
    const auto rounded = [&](const Expr &w) { return input == Input::tf32 ? round_tf32(w) : w; };
    const Expr key_row = nt * kTileColumns + row_of_b(lane), key_place = place_of_chunk(pair * kChunksOfPair + chunk_of_b(lane), key_row, chunks());
    const auto key_at = [&](const Expr &tile) { return at_keys(k_tile, {0, key_place, key_row, tile}); };
    const Expr query_row = row_of_tile(row_of_a(lane)), query_place = place_of_chunk((pair * 2 + of_pair) * kChunksOfProduct + chunk_of_a(lane), query_row, chunks());
    std::vector<Expr> query, key;
    for (int i = 0; i < 4; i++) {
        const Expr shared = at_queries(q_tile, {0, query_place, query_row});
        query.push_back(queries_shared ? rounded(load_matrix(word(shared), i)) : Expr(at_queries(q_words, {i, pair * 2 + of_pair, lane, warp, mt})));
    }
    for (int i = 0; i < 2; i++) {
        key.push_back(rounded(load_matrix(word(key_at(key_tile)), of_pair * 2 + i)));
    }
    // Both tiles are asked for ahead in the first stage of the loop: all copies must come before all reads.
    const Expr later = key_tile + stages - 1;
    at_queries(score, here) = with_sight_of(multiply_add(input, query, key, own), own, {key_at(later), at_keys(v_tile, {0, 0, 0, later})});
}

void AttentionTile::define_hidden(const Expr &some_hidden, const Shown &shown) {
    const std::vector<Expr> here = {lane, warp, nt, mt, key_tile};
    const FuncRef c = at_queries(score, here);
    RDom hide(0, 1, "hide");
    hide.where(some_hidden);
    hidings.push_back(hide);
    std::vector<Expr> scores(4);
    for (int column = 0; column < 2; column++) {
        const Expr row = row_of_tile(group_of(lane)), in_tile = nt * kTileColumns + 2 * member_of(lane) + column;
        const std::vector<Expr> of_column = shown({c[column], c[column + 2]}, row, in_tile);
        for (int row_half = 0; row_half < 2; row_half++) {
            // Else LLVM would select instead of branching, in every tile.
            scores[2 * row_half + column] = pinned(of_column[row_half] + 0.f * cast<float>(hide.x));
        }
    }
    at_queries(score, here) = with_sight_of(scores, {c[0], c[1], c[2], c[3]});
}

void AttentionTile::define_top() {
    std::vector<Expr> maxima;
    for (int row_half = 0; row_half < 2; row_half++) {
        Expr most;
        for (int tile = 0; tile < keys / kTileColumns; tile++) {
            const FuncRef s = at_queries(score, {lane, warp, tile, mt, key_tile});
            const Expr both = maximum(s[2 * row_half], s[2 * row_half + 1]);
            most = tile == 0 ? both : maximum(most, both);
        }
        maxima.push_back(across_lanes(most, larger));
    }
    at_queries(top, {lane, warp, mt, key_tile}) = Tuple(maxima);
}

AttentionTile::Operands AttentionTile::operands_of(const Expr &of_keys_tile, const Expr &column, const Expr &tile_of_keys, const Weight &weight) const {
    const Expr g = group_of(lane), t = member_of(lane);
    if (input == Input::tf32) {
        const auto bits = [&](int i) { return round_tf32(reinterpret<uint32_t>(weight(of_keys_tile, i))); };
        const auto value = [&](int second) {
            const Expr row = of_keys_tile * kTileColumns + 2 * t + second;
            const Expr first = at_keys(v_tile, {0, place_of_chunk(column / 4 * 8 + g, row, chunks()), row, tile_of_keys});
            return round_tf32(load_word(word(first), column % 4));
        };
        return {{bits(0), bits(2), bits(1), bits(3)}, {value(0), value(1)}};
    }
    // Two tiles of columns at once: a matrix for each half of the 16 keys and each of the two.
    const Expr row = of_keys_tile * 16 + lane % 16;
    const Expr first = at_keys(v_tile, {0, place_of_chunk(column / 2 * 2 + lane / 16, row, chunks()), row, tile_of_keys});
    const auto value = [&](int second) { return load_matrix_transposed(word(first), column % 2 * 2 + second); };
    return {weights_of(of_keys_tile, weight), {value(0), value(1)}};
}

std::vector<Expr> AttentionTile::weights_of(const Expr &of_keys_tile, const Weight &weight) const {
    const auto pair = [&](const Expr &tile, int row_half) { return pack(input, weight(tile, 2 * row_half), weight(tile, 2 * row_half + 1)); };
    return {pair(2 * of_keys_tile, 0), pair(2 * of_keys_tile, 1), pair(2 * of_keys_tile + 1, 0), pair(2 * of_keys_tile + 1, 1)};
}

AttentionTile::Softmax AttentionTile::softmax_of(const std::vector<Expr> &old, const Expr &of_mt, const Expr &tile_of_keys, const Expr &log2_scale) const {
    const FuncRef most = at_queries(top, {lane, warp, of_mt, tile_of_keys});
    Softmax softmax;
    std::vector<Expr> base;
    for (int row_half = 0; row_half < 2; row_half++) {
        base.push_back(maximum(old[row_half], multiply_up(most[row_half], log2_scale)));
        softmax.shrink.push_back(exp2_approx(old[row_half] - base[row_half]));
    }
    softmax.top = base;
    softmax.weight = [=, this](const Expr &tile, int i) {
        return exp2_approx(fused_multiply_add(at_queries(score, {lane, warp, tile, of_mt, tile_of_keys})[i], log2_scale, -base[i / 2]));
    };
    for (int row_half = 0; row_half < 2; row_half++) {
        Expr sum = 0.f;
        for (int tile = 0; tile < keys / kTileColumns; tile++) {
            sum += softmax.weight(tile, 2 * row_half) + softmax.weight(tile, 2 * row_half + 1);
        }
        softmax.sum.push_back(sum);
    }
    return softmax;
}

// The products of weights and values, 16 keys a step. The sums shrink at the first; the statistics are replaced at the last.
void AttentionTile::define_group_sums(const std::vector<Expr> &first, const Expr &log2_scale, const Expr &key_tiles) {
    const WarpgroupSums outputs_sums{kOutputs, head_dim};
    std::vector<Expr> begin;
    begin.reserve(head_dim / 2);
    const auto at_slot = [&](int component, int of_slot) { return simplify(Internal::substitute({{slot.name(), Expr(of_slot)}, {mt.name(), Expr(0)}}, first[component])); };
    for (int i = 0; i < head_dim / 2; i++) {
        begin.push_back(at_slot(i % 4, i / 4));
    }
    std::vector<Expr> initial = {begin_sums(outputs_sums, begin)};
    for (int i = 0; i < 4; i++) {
        initial.push_back(at_slot(i, outputs()));
    }
    at_queries(running, {lane, warp}) = Tuple(initial);

    const int count = keys / kTileRows;
    steps = RDom(0, count, 0, 1, 0, key_tiles, "steps");
    const RVar of_tile = steps.x, tile_of_keys = steps.z;
    const FuncRef c = at_queries(running, {lane, warp});
    const Softmax softmax = softmax_of({c[3], c[4]}, 0, tile_of_keys, log2_scale);
    const Expr before = select(of_tile == 0, scale_sums(outputs_sums, c[0], softmax.shrink[0], softmax.shrink[1]), Expr(c[0]));
    const Expr mixed = multiply_add_rows(input, outputs_sums, before, weights_of(of_tile, softmax.weight), tile_at(at_keys(v_tile, {0, 0, of_tile * kTileRows, tile_of_keys}), keys));
    std::vector<Expr> value = {mixed}, own = {c[0]};
    const std::vector<Expr> kept = softmax.kept({c[1], c[2]});
    for (int i = 0; i < 4; i++) {
        value.push_back(select(of_tile == count - 1, kept[i], Expr(c[1 + i])));
        own.push_back(c[1 + i]);
    }
    at_queries(running, {lane, warp}) = with_sight_of(value, own);
    const FuncRef last = at_queries(running, {lane, warp});
    std::vector<Expr> fragment = fragment_at(outputs_sums, last[0], min(slot, outputs() - 1));
    for (int i = 0; i < 4; i++) {
        fragment[i] = select(slot < outputs(), fragment[i], Expr(last[1 + i]));
    }
    at_queries(sums, {lane, warp, slot, mt}) = Tuple(fragment);
}

// Slots 0.. are the output's tiles of columns; the last holds the running sums and maxima of the lane's two rows. The slots
// go in order, so that the last still has the old maxima when the others are scaled.
void AttentionTile::define_sums(const std::vector<Expr> &first, const Expr &log2_scale, const Expr &key_tiles) {
    if (warpgroups) {
        define_group_sums(first, log2_scale, key_tiles);
        return;
    }
    const int columns = keys / kTileColumns, count = input == Input::tf32 ? columns : columns / 2;
    at_queries(sums, {lane, warp, slot, mt}) = Tuple(first);

    steps = RDom(0, count, 0, outputs() + 1, 0, key_tiles, "steps");
    const RVar of_tile = steps.x, column = steps.y, tile_of_keys = steps.z;
    const FuncRef c = at_queries(sums, {lane, warp, column, mt}), statistics = at_queries(sums, {lane, warp, outputs(), mt});
    const Softmax softmax = softmax_of({statistics[2], statistics[3]}, mt, tile_of_keys, log2_scale);
    const Operands operands = operands_of(of_tile, min(column, outputs() - 1), tile_of_keys, softmax.weight);
    std::vector<Expr> scaled, value;
    for (int i = 0; i < 4; i++) {
        scaled.push_back(select(of_tile == 0, Expr(c[i]) * softmax.shrink[i / 2], Expr(c[i])));
    }
    const std::vector<Expr> mixed = multiply_add(input, operands.weights, operands.values, scaled);
    const std::vector<Expr> kept = softmax.kept({statistics[0], statistics[1]});
    for (int i = 0; i < 4; i++) {
        value.push_back(select(column < outputs(), mixed[i], of_tile == count - 1, kept[i], Expr(c[i])));
    }
    at_queries(sums, {lane, warp, column, mt}) = with_sight_of(value, {c[0], c[1], c[2], c[3]});
}

void AttentionTile::define_inverse(const std::vector<Expr> &more) {
    const FuncRef last = at_queries(sums, {lane, warp, outputs(), mt});
    const auto of = [&](int row_half) {
        const Expr sum = across_lanes(last[row_half], plus);
        return pinned(1.f / (more.empty() ? sum : sum + more[row_half]));
    };
    at_queries(inverse, {lane, warp, mt}) = {of(0), of(1)};
}

Expr AttentionTile::output(const Expr &d, const Expr &row, const std::vector<Expr> &queries) const {
    const Expr of_warp = row / rows_of_warp(), of_tile = row % rows_of_warp() / kTileRows;
    const Place at = place_of_channel(row, d);
    std::vector<Expr> at_result = {at.lane, of_warp, at.tile, of_tile};
    at_result.insert(at_result.end(), queries.begin(), queries.end());
    return component(result(at_result), at.component);
}

}  // namespace moa::tensor_core
