#pragma once

#include "generators/project.h"
#include "generators/tensor_core/instructions.h"

namespace moa {

// The operation of generators/project.h, with the same arguments, on the tensor cores of a GPU. Inputs are bf16, f16 or f32,
// which is rounded to tf32; sums, norms and the epilogue are f32.
//
// A block of threads makes tile_rows x tile_columns of the output of one expert and batch entry; its warps make 64 columns
// and warp_rows each. Rows are gathered by the copies into shared memory. Columns are in an order in which a lane holds eight
// neighbours, for its stores, and both members of a rotated pair.
//
// Memory: weights(0, c, o, e) are plain rows in the storage type: a view (1, in, out, e) of row-major [e][out][in], where
// `in` is padded with zeros to a multiple of `pad` channels (64 covers every row). Rows of x, of the weights and of the
// output begin at multiples of 16 bytes, and x has a multiple of 16 bytes of channels, as the output's heads do; so do rows of
// the tables if there is a rotation. The other arguments may have any strides.
//
// Values: head_dim: 0 for one head of any width (a multiple of 8), or 32, 64, 128; tile_rows, tile_columns, warp_rows;
// blocks: how many times 64 bytes of a row a pipeline stage holds; stages; plain, rotary: as in project.h (rotation needs a
// head_dim); activation = 0: none. warpgroups = 1: four warps multiply 64 rows (wgmma; bf16 and f16); a warp has 16 of them and
// all of the tile's columns, a stage 64 or 128 bytes of a row, and `unfinished` stages may be multiplied while a copy begins.
struct ProjectTensorCore : ProjectInputs {
    static constexpr int kWarpColumns = 64;

    Halide::Var d{"d"}, m{"m"}, h{"h"}, e{"e"}, b{"b"};
    // element of a 16-byte chunk, its place in the row (fragment.h), row or column of the tile, stage; tiles of the output
    Halide::Var v{"v"}, place{"place"}, y{"y"}, k{"k"}, column_tile{"column_tile"}, row_tile{"row_tile"};
    Halide::Var chunk{"chunk"}, lane{"lane"}, warp{"warp"}, nt{"nt"}, mt{"mt"}, round{"round"}, half{"half"};
    Halide::RDom steps;  // product of a pair, pair, stage; or stage
    Halide::RVar stage;

    Halide::Func source{"source"};                    // (y, row_tile, e, b): position and batch entry of the row
    Halide::Func own_source{"own_source"};            // (lane, warp, round, row_tile, e, b): likewise, of the rows that a thread copies from
    Halide::Func x_tile{"x_tile"}, w_tile{"w_tile"};  // (v, place, y, k, row_tile or column_tile, e, ..); columns in the warps' order
    Halide::Func group_sums{"group_sums"};            // (lane, warp, column_tile, row_tile, e, b): token of a warpgroup's sums, if warpgroups multiply
    Halide::Func sums{"sums"};                        // (lane, warp, nt, mt, column_tile, row_tile, e, b): 16 x 8 fragments
    Halide::Func row_terms{"row_terms"};              // (y, row_tile, e, b): factor and shift of the norm
    Halide::Func column_terms{"column_terms"};        // (y, half, column_tile, e): colsum and bias, anew for each half of 16 rows if terms_of_half
    Halide::Func turn{"turn"};                        // (chunk, m, e, b): cosines, then sines, of a row's eight neighbours, if there is a rotation
    Halide::Func out{"out"};                          // (d, m, h, e, b)

    bool rotary = false;
    int head_dim = 0, tile_rows = 0, tile_columns = 0, warp_rows = 0, blocks = 0, stages = 0, unfinished = 0;
    bool warpgroups = false;
    // Warpgroups with more than sums to store read terms again for the second of a lane's rows: kept, they are 32 registers.
    bool terms_of_half = false;

    int chunks() const {
        return blocks * 4;
    }
    int warp_columns() const {
        return warpgroups ? tile_columns : kWarpColumns;
    }
    int warps() const {
        return tile_rows / warp_rows * (tile_columns / warp_columns());
    }
    std::vector<Halide::Func> outputs() const;
};

ProjectTensorCore make_project_tensor_core(Halide::Type storage, const Values &values);

}  // namespace moa
