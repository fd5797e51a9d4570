#include "generators/project.h"

#include "generators/math.h"

#include <stdexcept>

namespace moa {

using namespace Halide;

std::vector<Func> Project::outputs() const {
    return {out};
}

namespace {

// Adds products of whole tiles: of the pieces `of_rows` and `of_weights`, pair by pair.
void add_tiles(Project &op, int pair, RDom domain, const std::vector<Expr> &of_rows, const std::vector<Expr> &of_weights) {
    const Var &i = op.i, &m = op.m, &p = op.p, &k = op.k, &e = op.e, &b = op.b;
    constexpr int kTile = Project::kTileChannels;
    const RVar channel = domain.x, step = domain.y, product = domain.z;
    const Expr steps = (op.dim_in + kTile - 1) / kTile, tile = k * (op.block / kTile) + step;
    const Expr all = op.weights.dim(1).extent() / (kTile / pair);
    const Expr of_panel = e * (all / op.bias.dim(1).extent()) + (p * op.pieces + mux(product, of_weights)) * steps + tile;
    const Expr group = unsafe_promise_clamped(of_panel, 0, all - 1) * (kTile / pair) + channel / pair;
    domain.where(tile < steps);
    op.product(i, m, p, k, e, b) += cast<float>(op.packed(step * kTile + channel, mux(product, of_rows), m, k, e, b)) *
                                    cast<float>(op.weights(i * pair + channel % pair, group));
}

// What three pieces leave out of a product, and with it the products of pieces that are left out, is below 2^-24 of the whole.
// The small products are summed first. Neighbours share a piece, whose tiles stay in registers.
void define_tiles(Project &op, int pair) {
    constexpr int kTile = Project::kTileChannels;
    op.block_channels = RDom(0, kTile, 0, op.block / kTile, 0, 1, "channel");
    if (op.pieces > 1) {
        op.small_channels = RDom(0, kTile, 0, op.block / kTile, 0, 5, "small_channel");
        add_tiles(op, pair, op.small_channels, {2, 1, 1, 0, 0}, {0, 0, 1, 1, 2});
    }
    add_tiles(op, pair, op.block_channels, {0}, {0});
}

// The reduction of one block stops at the last channel, which the analysis of bounds does not see over several blocks.
void define_update(Project &op, int pair, bool tiles, bool padded, bool whole) {
    const Var &i = op.i, &m = op.m, &p = op.p, &k = op.k, &e = op.e, &b = op.b;
    const auto groups_of = [&](int channels) { return (op.dim_in + channels - 1) / channels; };
    const auto inside = [&](const Expr &group) { return unsafe_promise_clamped(group, 0, groups_of(pair) - 1); };
    if (tiles) {
        define_tiles(op, pair);
    } else if (whole) {
        op.block_channels = RDom(0, op.dim_in, "channel");
        op.product(i, m, p, k, e, b) += op.packed(op.block_channels, 0, m, k, e, b) * op.weights(i, op.block_channels, p, e);
    } else if (pair == 1) {
        op.block_channels = RDom(0, op.block, "channel");
        const Expr channel = k * op.block + op.block_channels;
        if (!padded) {
            op.block_channels.where(channel < op.dim_in);
        }
        const Expr held = padded ? min(channel, op.dim_in - 1) : inside(channel);
        op.product(i, m, p, k, e, b) += op.packed(op.block_channels, 0, m, k, e, b) * op.weights(i, held, p, e);
    } else {
        op.block_channels = RDom(0, pair, 0, op.block / pair, "channel");
        const RVar half = op.block_channels.x, group = op.block_channels.y;
        op.block_channels.where(k * (op.block / pair) + group < groups_of(pair));
        op.product(i, m, p, k, e, b) += cast<float>(op.packed(group * pair + half, 0, m, k, e, b)) *
                                        cast<float>(op.weights(i * pair + half, inside(k * (op.block / pair) + group), p, e));
    }
}

void define_product(Project &op, int pair, bool tiles, bool padded, bool whole) {
    const Var &i = op.i, &m = op.m, &p = op.p, &c = op.c, &s = op.s, &k = op.k, &e = op.e, &b = op.b;
    op.dim_in = op.x.dim(0).extent();
    op.source(m, e, b) = op.source_of(m, e, b);

    const Expr channel = k * op.block + c;
    const Expr taken = op.x(min(channel, op.dim_in - 1), op.source(m, e, b)[0], op.source(m, e, b)[1]);
    const Expr stored = op.pieces > 1 ? mux(s, bf16_pieces(as_f32(taken))) : (pair == 1 ? as_f32(taken) : taken);
    op.packed(c, s, m, k, e, b) = select(channel < op.dim_in, stored, cast(stored.type(), 0));

    op.product(i, m, p, k, e, b) = 0.f;
    define_update(op, pair, tiles, padded, whole);
    if (whole) {
        op.sums(i, m, p, e, b) = op.product(i, m, p, 0, e, b);
        return;
    }
    op.blocks = RDom(0, (op.dim_in + op.block - 1) / op.block, "block");
    op.sums(i, m, p, e, b) = 0.f;
    op.sums(i, m, p, e, b) += op.product(i, m, p, op.blocks, e, b);
}

void define_row_terms(Project &op) {
    const Var &m = op.m, &e = op.e, &b = op.b;
    const Tuple terms = op.norm_terms(op.source(m, e, b)[0], op.source(m, e, b)[1]);
    op.row_factor(m, e, b) = terms[0];
    op.row_shift(m, e, b) = terms[1];
}

void define_epilogue(Project &op, Type storage, int panel, bool plain, bool rotary) {
    const Var &d = op.d, &m = op.m, &h = op.h, &e = op.e, &b = op.b;
    const Expr width = op.cosines.dim(0).extent();
    const Expr o = h * width + d;
    const Expr panel_index = plain ? h * (width / panel) + d / panel : o / panel;
    const Expr sum = op.sums(plain ? d % panel : o % panel, m, panel_index, e, b);
    op.column_terms(op.o, e) = {op.colsum(op.o, e), op.bias(op.o, e)};
    const Expr v = sum * op.row_factor(m, e, b) + (op.row_shift(m, e, b) * op.column_terms(o, e)[0] + op.column_terms(o, e)[1]);
    op.value(d, m, h, e, b) = plain ? v : select(op.activation == 1, gelu(v), v);

    Expr turned = op.value(d, m, h, e, b);
    if (rotary) {
        const Expr half = width / 2;
        const Expr other = op.value(select(d < half, min(d + half, width - 1), max(d - half, 0)), m, h, e, b);
        const Expr position = clamp(op.positions(m, e, b), 0, op.cosines.dim(1).extent() - 1);
        const Expr rotated = turned * op.cosines(d, position, e, b) + select(d < half, -other, other) * op.sines(d, position, e, b);
        turned = select(h < op.rotary_heads, rotated, turned);
    }
    const Expr factor = op.scale(m, clamp(h / op.scale_heads, 0, op.scale.dim(1).extent() - 1), e, b);
    op.out(d, m, h, e, b) = as_stored(op.scaled(turned, factor), storage);
}

}  // namespace

Project make_project(Type storage, const Values &statics) {
    const int panel = statics.get("panel", 8), pair = statics.get("pair", 1);
    const bool tiles = statics.get("tiles", 0) != 0;
    Project op;
    op.block = statics.get("block", op.block);
    op.pieces = statics.get("pieces", op.pieces);
    op.x = ImageParam(storage, 3, "x");
    op.weights = ImageParam(pair == 1 ? Float(32) : BFloat(16), tiles ? 2 : 4, "weights");
    allow_any_stride(op.rows, op.stats, op.colsum, op.bias, op.positions, op.scale);
    if (statics.get("rotary", 0) == 0) {
        allow_any_stride(op.cosines, op.sines);
    }
    const bool whole = statics.get("whole", 0) != 0;
    if (whole && pair != 1) {
        throw std::runtime_error("whole = 1 is for single input channels, not for pairs");
    }
    define_product(op, pair, tiles, statics.get("padded", 0) != 0, whole);
    define_row_terms(op);
    const bool plain = statics.get("plain", 0) != 0;
    define_epilogue(op, storage, panel, plain, !plain && statics.get("rotary", 1) != 0);
    begin_at_zero(op.out);
    return op;
}

MOA_OPERATION(Project, "project", make_project);

}  // namespace moa
