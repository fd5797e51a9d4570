#include "generators/project_tensor_core.h"

#include "generators/math.h"
#include "generators/tensor_core/fragment.h"

#include <algorithm>

namespace moa {

using namespace Halide;
using namespace moa::tensor_core;

std::vector<Func> ProjectTensorCore::outputs() const {
    return {out};
}

namespace {

// Where a warp holds the tile's columns. The two channels of a rotated pair are half a head apart, and 32 columns of the warp.
struct WarpColumns {
    int head_dim;
    static constexpr int kWidth = ProjectTensorCore::kWarpColumns, kHalf = kWidth / 2;

    // A half of a head in pieces that a warp's half takes: several pieces of a wide head, one of several narrow heads.
    int piece() const {
        return std::min(head_dim / 2, kHalf);
    }
    bool as_they_come() const {
        return head_dim == 0 || head_dim == kWidth;
    }
    Expr warp_of(const Expr &column) const {
        if (as_they_come() || head_dim < kWidth) {
            return column / kWidth;
        }
        return column / head_dim * (head_dim / kWidth) + column % (head_dim / 2) / kHalf;
    }
    Expr in_warp(const Expr &column) const {
        if (as_they_come()) {
            return column % kWidth;
        }
        const Expr half = column % head_dim / (head_dim / 2), head = column % kWidth / head_dim;
        return half * kHalf + (head_dim < kWidth ? head * piece() : Expr(0)) + column % piece();
    }
    Expr column(const Expr &warp, const Expr &in_warp) const {
        if (as_they_come()) {
            return warp * kWidth + in_warp;
        }
        const Expr half = in_warp / kHalf;
        if (head_dim < kWidth) {
            return warp * kWidth + in_warp % kHalf / piece() * head_dim + half * piece() + in_warp % piece();
        }
        const int parts = head_dim / kWidth;
        return warp / parts * head_dim + half * (head_dim / 2) + warp % parts * kHalf + in_warp % kHalf;
    }
};

void define_source(ProjectTensorCore &op) {
    const Var &y = op.y, &e = op.e, &b = op.b;
    op.source(y, op.row_tile, e, b) = op.source_of(op.row_tile * op.tile_rows + y, e, b);
}

// The rows that a thread copies from are looked up once, into its registers. Copies go round by round over all chunks of the
// tile.
void define_tiles(ProjectTensorCore &op, int elements) {
    const Var &e = op.e, &b = op.b, &v = op.v, &place = op.place, &y = op.y, &k = op.k;
    const int threads = kLanes * op.warps();
    const FuncRef looked_up = op.source(((op.round * op.warps() + op.warp) * kLanes + op.lane) / op.chunks(), op.row_tile, e, b);
    op.own_source(op.lane, op.warp, op.round, op.row_tile, e, b) = {looked_up[0], looked_up[1]};
    const Expr task = y * op.chunks() + place;
    const FuncRef from = op.own_source(task % kLanes, task / kLanes % op.warps(), task / threads, op.row_tile, e, b);

    // Stages past the end are asked for ahead but not used; channels past the last are those of the padding, times 0.
    const Expr at = k * op.chunks() + place_of_chunk(place, y, op.chunks());
    const int of_chunk = kWordsOfCopy * elements;
    const auto inside = [&](const Expr &channels) { return min(at, channels / of_chunk - 1) * of_chunk + v; };
    op.x_tile(v, place, y, k, op.row_tile, e, b) = bits_of(op.x(inside(op.x.dim(0).extent()), from[0], from[1]));
    constexpr int kWidth = ProjectTensorCore::kWarpColumns;
    const Expr column = WarpColumns{op.head_dim}.column(y / kWidth, column_of(y % kWidth / kTileColumns, y % kTileColumns));
    const Expr o = min(op.column_tile * op.tile_columns + column, op.weights.dim(2).extent() - 1);
    op.w_tile(v, place, y, k, op.column_tile, e) = bits_of(op.weights(0, inside(op.weights.dim(1).extent()), o, e));
}

void define_sums(ProjectTensorCore &op, Input input) {
    const Var &lane = op.lane, &warp = op.warp, &nt = op.nt, &mt = op.mt, &e = op.e, &b = op.b;
    const int warps_down = op.tile_rows / op.warp_rows;
    const Expr stages = op.weights.dim(1).extent() / (elements_of_word(input) * kWordsOfCopy * op.chunks());
    op.steps = RDom(0, 2, 0, op.chunks() / kChunksOfPair, 0, stages, "steps");
    op.stage = op.steps.z;
    const RVar product = op.steps.x, pair = op.steps.y, k = op.stage;

    const Expr row = warp % warps_down * op.warp_rows + mt * kTileRows + row_of_a(lane);
    const Expr column = warp / warps_down * ProjectTensorCore::kWarpColumns + nt * kTileColumns + row_of_b(lane);
    const Expr x_place = place_of_chunk(pair * kChunksOfPair + product * kChunksOfProduct + chunk_of_a(lane), row, op.chunks());
    const Expr w_place = place_of_chunk(pair * kChunksOfPair + chunk_of_b(lane), column, op.chunks());
    const auto x_at = [&](const Expr &stage) { return op.x_tile(0, x_place, row, stage, op.row_tile, e, b); };
    const auto w_at = [&](const Expr &stage) { return op.w_tile(0, w_place, column, stage, op.column_tile, e); };
    const auto rounded = [&](const Expr &w) { return input == Input::tf32 ? round_tf32(w) : w; };
    std::vector<Expr> x, w;
    for (int i = 0; i < 4; i++) {
        x.push_back(rounded(load_matrix(word(x_at(k)), i)));
    }
    for (int i = 0; i < 2; i++) {
        w.push_back(rounded(load_matrix(word(w_at(k)), product * 2 + i)));
    }

    op.sums(lane, warp, nt, mt, op.column_tile, op.row_tile, e, b) = Tuple(0.f, 0.f, 0.f, 0.f);
    const FuncRef c = op.sums(lane, warp, nt, mt, op.column_tile, op.row_tile, e, b);
    const std::vector<Expr> own = {c[0], c[1], c[2], c[3]};
    const Expr later = k + op.stages - 1;
    op.sums(lane, warp, nt, mt, op.column_tile, op.row_tile, e, b) = with_sight_of(multiply_add(input, x, w, own), own, {x_at(later), w_at(later)});
}

// The same by warpgroups.
void define_group_sums(ProjectTensorCore &op, Input input) {
    const Var &lane = op.lane, &warp = op.warp, &e = op.e, &b = op.b;
    const WarpgroupSums sums{0, op.tile_columns};
    const int row_bytes = op.chunks() * kCopyBytes;
    op.steps = RDom(0, op.weights.dim(1).extent() / (elements_of_word(input) * kWordsOfCopy * op.chunks()), "steps");
    op.stage = op.steps.x;
    const Expr later = op.stage + op.stages - 1 - op.unfinished;
    const auto x_at = [&](const Expr &stage) { return op.x_tile(0, 0, warp / kWarpsOfGroup * kRowsOfGroup, stage, op.row_tile, e, b); };
    const auto w_at = [&](const Expr &stage) { return op.w_tile(0, 0, 0, stage, op.column_tile, e); };
    op.group_sums(lane, warp, op.column_tile, op.row_tile, e, b) = begin_sums(sums, std::vector<Expr>(op.tile_columns / 2, 0.f));
    const FuncRef own = op.group_sums(lane, warp, op.column_tile, op.row_tile, e, b);
    const Expr more = multiply_add_tiles(input, sums, own, {word(x_at(op.stage)), row_bytes}, {word(w_at(op.stage)), row_bytes});
    op.group_sums(lane, warp, op.column_tile, op.row_tile, e, b) = with_sight_of({more}, {own}, {x_at(later), w_at(later)})[0];
    op.sums(lane, warp, op.nt, op.mt, op.column_tile, op.row_tile, e, b) = Tuple(fragment_at(sums, own, op.nt));
}

void define_terms(ProjectTensorCore &op) {
    const Var &y = op.y, &e = op.e, &b = op.b;
    const FuncRef from = op.source(y, op.row_tile, e, b);
    op.row_terms(y, op.row_tile, e, b) = op.norm_terms(from[0], from[1]);
    const Expr o = min(op.column_tile * op.tile_columns + y, op.weights.dim(2).extent() - 1);
    op.column_terms(y, op.half, op.column_tile, e) = {op.colsum(o, e), op.bias(o, e)};
}

// The tables' rows of a row's position, by 16 bytes at once.
void define_turn(ProjectTensorCore &op) {
    const Var &chunk = op.chunk, &m = op.m, &e = op.e, &b = op.b;
    const Expr position = clamp(op.positions(m, e, b), 0, op.cosines.dim(1).extent() - 1);
    std::vector<Expr> values;
    for (const ImageParam *table : {&op.cosines, &op.sines}) {
        for (int i = 0; i < kNeighbours; i++) {
            const Expr first = (*table)(chunk * kNeighbours + i / kWordsOfCopy * kWordsOfCopy, position, e, b);
            values.push_back(reinterpret<float>(load_word(word(first), i % kWordsOfCopy)));
        }
    }
    op.turn(chunk, m, e, b) = Tuple(values);
}

void define_epilogue(ProjectTensorCore &op, Type stored, bool activation) {
    const Var &d = op.d, &m = op.m, &h = op.h, &e = op.e, &b = op.b;
    const int warps_down = op.tile_rows / op.warp_rows, heads = op.head_dim == 0 ? 1 : op.tile_columns / op.head_dim;
    const Expr column_tile = op.head_dim == 0 ? Expr(d) / op.tile_columns : Expr(h) / heads;
    const Expr row_tile = m / op.tile_rows, row = m % op.tile_rows;
    const WarpColumns columns{op.head_dim};
    const auto value = [&](const Expr &channel) {
        const Expr column = op.head_dim == 0 ? channel % op.tile_columns : h % heads * op.head_dim + channel;
        const Place place = place_of(row, columns.in_warp(column));
        const Expr part = columns.warp_of(column), tiles = ProjectTensorCore::kWarpColumns / kTileColumns;
        const Expr warp = op.warpgroups ? row / op.warp_rows : row / op.warp_rows + part * warps_down;
        const FuncRef fragment = op.sums(place.lane, warp, op.warpgroups ? part * tiles + place.tile : place.tile, row % op.warp_rows / kTileRows, column_tile, row_tile, e, b);
        const FuncRef r = op.row_terms(row, row_tile, e, b), c = op.column_terms(column, op.terms_of_half ? row % kTileRows / 8 : Expr(0), column_tile, e);
        const Expr v = component(fragment, place.component) * r[0] + (r[1] * c[0] + c[1]);
        return activation ? select(op.activation == 1, gelu(v), v) : v;
    };
    Expr turned = value(d);
    if (op.rotary) {
        const int half = op.head_dim / 2;
        const Expr other = value((d + half) % op.head_dim);
        const FuncRef turn = op.turn(d / kNeighbours, m, e, b);
        const auto table = [&](int first) {
            std::vector<Expr> values;
            values.reserve(kNeighbours);
            for (int i = 0; i < kNeighbours; i++) {
                values.push_back(turn[first + i]);
            }
            return mux(d % kNeighbours, values);
        };
        const Expr rotated = turned * table(0) + select(d < half, -other, other) * table(kNeighbours);
        turned = select(h < op.rotary_heads, rotated, turned);
    }
    const Expr factor = op.scale(m, clamp(h / op.scale_heads, 0, op.scale.dim(1).extent() - 1), e, b);
    op.out(d, m, h, e, b) = round_to(stored, op.scaled(turned, factor));
}

}  // namespace

ProjectTensorCore make_project_tensor_core(Type storage, const Values &values) {
    ProjectTensorCore op;
    op.head_dim = values.get("head_dim", 0);
    op.tile_rows = values("tile_rows");
    op.tile_columns = values("tile_columns");
    op.warp_rows = values("warp_rows");
    op.blocks = values("blocks");
    op.stages = values("stages");
    op.warpgroups = values.get("warpgroups", 0) != 0;
    op.unfinished = values.get("unfinished", 0);
    const bool plain = values.get("plain", 0) != 0;
    op.rotary = !plain && values.get("rotary", 1) != 0;
    op.terms_of_half = op.warpgroups && !plain;
    if (op.rotary && op.head_dim == 0) {
        throw std::runtime_error("rotation needs a static head_dim");
    }
    const Input input = input_of(storage);
    if (op.warpgroups && (op.warp_rows != kTileRows || op.tile_rows % kRowsOfGroup != 0 || op.blocks > 2 || (op.tile_columns != 128 && op.tile_columns != 256))) {
        throw std::runtime_error("warpgroups make 64 rows of 128 or 256 columns each, a warp 16 rows, from stages of at most 2 blocks");
    }
    op.x = ImageParam(storage, 3, "x");
    op.weights = ImageParam(storage, 4, "weights");
    allow_any_stride(op.rows, op.stats, op.colsum, op.bias, op.positions, op.scale);
    if (!op.rotary) {
        allow_any_stride(op.cosines, op.sines);
    }
    define_source(op);
    define_tiles(op, elements_of_word(input));
    if (op.warpgroups) {
        define_group_sums(op, input);
    } else {
        define_sums(op, input);
    }
    define_terms(op);
    if (op.rotary) {
        define_turn(op);
    }
    define_epilogue(op, values.get("out_f32", 0) != 0 ? Float(32) : storage, !plain && values.get("activation", 1) != 0);
    begin_at_zero(op.out);
    return op;
}

MOA_OPERATION(ProjectTensorCore, "project", make_project_tensor_core);

}  // namespace moa
