#pragma once

#include "generators/codegen/kernel.h"
#include "generators/finite.h"

namespace moa {

// What the operation `project` takes, whatever the algorithm, and what it says of a row.
struct ProjectInputs {
    Halide::ImageParam x;
    Halide::ImageParam rows{Halide::Int(32), 3, "rows"};
    Halide::ImageParam weights;  // in the algorithm's format
    Halide::ImageParam stats{Halide::Float(32), 3, "stats"};
    Halide::ImageParam colsum{Halide::Float(32), 2, "colsum"};
    Halide::ImageParam bias{Halide::Float(32), 2, "bias"};
    Halide::ImageParam cosines{Halide::Float(32), 4, "cosines"};
    Halide::ImageParam sines{Halide::Float(32), 4, "sines"};
    Halide::ImageParam positions{Halide::Int(32), 3, "positions"};
    Halide::ImageParam scale{Halide::Float(32), 4, "scale"};
    Halide::Param<int> gather{"gather"}, norm{"norm"};
    Halide::Param<float> norm_dim{"norm_dim"};
    Halide::Param<int> activation{"activation"}, rotary_heads{"rotary_heads"}, scale_heads{"scale_heads"};

    std::vector<Halide::Argument> arguments() const {
        return {x, rows, weights, stats, colsum, bias, cosines, sines, positions, scale, gather, norm, norm_dim, activation, rotary_heads, scale_heads};
    }

    // Position and batch entry of row m. Tiles reach over the last row, and rows come from outside: a wrong one must not read
    // out of bounds.
    Halide::Tuple source_of(const Halide::Expr &m, const Halide::Expr &e, const Halide::Expr &b) const {
        using namespace Halide;
        const Expr length = x.dim(1).extent(), own = min(m, positions.dim(0).extent() - 1);
        const Expr row = select(gather != 0, rows(own, e, b), b * length + own);
        return {clamp(row % length, 0, length - 1), clamp(row / length, 0, x.dim(2).extent() - 1)};
    }
    // The norm's factor of a source, and its addend of the weights' column sums.
    Halide::Tuple norm_terms(const Halide::Expr &n, const Halide::Expr &batch) const {
        using namespace Halide;
        const Expr length = sqrt(stats(n, 0, batch)), rms = sqrt(norm_dim) / max(length, 1e-12f);
        const Expr layer = 1.f / sqrt(stats(n, 2, batch) + 1e-5f);
        // The largest of a NaN and the smallest norm may be either.
        return {select_bits(norm == 1 && is_nan_bits(length), nan_f32(), select(norm == 1, rms, norm == 2, layer, 1.f)),
                select(norm == 2, -stats(n, 1, batch) * layer, 0.f)};
    }
    // A factor of exactly 0 gives exactly 0. Looked at as bits: a NaN may pass for any number in a comparison.
    static Halide::Expr scaled(const Halide::Expr &value, const Halide::Expr &factor) {
        return Halide::select(magnitude_bits(factor) == Halide::cast<uint32_t>(0), 0.f, value * factor);
    }
};

// Gathered rows times one weight matrix an expert, with the norm, bias, activation, rotation and scale of each row in the
// epilogue, written head by head: out(d, m, h, e, b) for output channel o = h * D + d.
//
// A norm's gain lies in the weights; its row factor r commutes with the product, and a layer norm's mean with the weights'
// column sums: value = (x . w) r + shift colsum + bias. Then gelu (erf), then rotation of the first rotary_heads heads by the
// tables' row positions(m), then scale(m, h / scale_heads), where a factor of exactly 0 gives exactly 0.
//
// Static values: block, input channels that are packed and multiplied before the next ones; panel, output channels of a weight
// panel; pair, input channels that a multiply-add takes at once (2: bf16 pairs); tiles = 1: products of whole matrix tiles, 32
// input channels at once, of weights (panel * pair, groups of all panels of all experts) whose groups are zero padded to whole
// tiles; pieces = 3, with tiles and f32 storage: rows and weights are sums of three bf16 pieces, multiplied as six products,
// and the groups of a panel are those of each piece, one after the other; plain = 1: no rotation, no activation, and head
// widths that are multiples of the panel; rotary = 0: no rotation; whole = 1, without pairs: all input channels are one block,
// and its products are the sums; padded = 1: blocks are multiplied whole, with zeros after the last channel.
struct Project : ProjectInputs {
    static constexpr int kTileChannels = 32;

    Halide::Var d{"d"}, m{"m"}, h{"h"}, o{"o"}, e{"e"}, b{"b"};
    Halide::Var i{"i"}, p{"p"}, c{"c"}, s{"s"}, k{"k"};  // channel of a panel, panel, channel of a block, piece, block
    Halide::RDom block_channels, small_channels, blocks;
    Halide::Func source{"source"};                                  // (m, e, b): position and batch entry of the row
    Halide::Func packed{"packed"};                                  // (c, s, m, k, e, b): gathered rows
    Halide::Func product{"product"};                                // (i, m, p, k, e, b): one block's register tile
    Halide::Func sums{"sums"};                                      // (i, m, p, e, b)
    Halide::Func row_factor{"row_factor"}, row_shift{"row_shift"};  // (m, e, b)
    Halide::Func column_terms{"column_terms"};                      // (o, e): colsum and bias
    Halide::Func value{"value"};                                    // (d, m, h, e, b): before rotation and scale
    Halide::Func out{"out"};
    Halide::Expr dim_in;
    int block = 256, pieces = 1;

    std::vector<Halide::Func> outputs() const;
};

Project make_project(Halide::Type storage, const Values &statics);

}  // namespace moa
