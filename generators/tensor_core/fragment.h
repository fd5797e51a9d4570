#pragma once

#include "Halide.h"

// A fragment is a Func: a warp's 16 x 8 piece of a matrix is spread over the registers of its 32 lanes, and element (row,
// column) of the piece is a component of the tuple f(lane, warp, tiles...). What is here says which lane and which component.
namespace moa::tensor_core {

constexpr int kLanes = 32, kTileRows = 16, kTileColumns = 8;

// A lane's rows of a tile are g and g + 8; its columns of sums are 2t and 2t + 1.
inline Halide::Expr group_of(const Halide::Expr &lane) {
    return lane / 4;
}
inline Halide::Expr member_of(const Halide::Expr &lane) {
    return lane % 4;
}

// What a lane names to load_matrix: for the operand A, rows 0..15 of chunks 0 and 1; for B of two products, rows 0..7 of
// chunks 0..3.
inline Halide::Expr row_of_a(const Halide::Expr &lane) {
    return lane % 16;
}
inline Halide::Expr chunk_of_a(const Halide::Expr &lane) {
    return lane / 16;
}
inline Halide::Expr row_of_b(const Halide::Expr &lane) {
    return lane % 8;
}
inline Halide::Expr chunk_of_b(const Halide::Expr &lane) {
    return lane / 8;
}
constexpr int kChunksOfProduct = 2, kChunksOfPair = 4;

// Where a 16-byte chunk of a row lies in a tile in shared memory: rows of `chunks` chunks, of which those of a 128-byte line
// are exchanged by the row. So eight rows of a chunk, which a load touches at once, are in different banks, and the chunks of
// a row, which a copy writes at once, in one line. The same function takes a place back to its chunk. The exclusive or is
// spelled out for Halide, which knows no bounds of the operator's.
inline Halide::Expr place_of_chunk(const Halide::Expr &chunk, const Halide::Expr &row, int chunks) {
    const int of_line = chunks < 8 ? chunks : 8;
    const Halide::Expr by = row / (8 / of_line) % of_line, in_line = chunk % of_line;
    Halide::Expr place = chunk / of_line * of_line;
    for (int bit = 1; bit < of_line; bit *= 2) {
        place += (in_line / bit + by / bit) % 2 * bit;
    }
    return place;
}

// Columns in an order in which a lane holds eight neighbours: of 32 columns, tile j (0..3), column n is this one.
constexpr int kColumnsOfGroup = 32, kNeighbours = 8;
inline Halide::Expr column_of(const Halide::Expr &tile, const Halide::Expr &n) {
    return tile / 4 * kColumnsOfGroup + n / 2 * kNeighbours + tile % 4 * 2 + n % 2;
}

// And back.
struct Place {
    Halide::Expr lane, tile, component;
};
inline Place place_of(const Halide::Expr &row, const Halide::Expr &column) {
    const Halide::Expr in_group = column % kColumnsOfGroup;
    return {row % 8 * 4 + in_group / kNeighbours, column / kColumnsOfGroup * 4 + in_group % kNeighbours / 2, row % kTileRows / 8 * 2 + column % 2};
}

// The component of a fragment by an index that need not be constant.
inline Halide::Expr component(const Halide::FuncRef &fragment, const Halide::Expr &i) {
    return Halide::mux(i, {Halide::Expr(fragment[0]), Halide::Expr(fragment[1]), Halide::Expr(fragment[2]), Halide::Expr(fragment[3])});
}

}  // namespace moa::tensor_core
