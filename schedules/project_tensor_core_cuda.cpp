#include "generators/project_tensor_core.h"
#include "generators/tensor_core/fragment.h"
#include "schedules/cuda.h"

namespace moa {

using namespace Halide;
using namespace moa::tensor_core;

namespace {

constexpr int kAlignedTerms = 128;  // f32: behind them, tiles of warpgroups begin at multiples of 512 bytes

// The loops over the output that a lane's fragments ask for: eight neighbours at once, the lane's rows and groups of columns
// unrolled.
void schedule_out(ProjectTensorCore &op) {
    Func &out = op.out;
    Var row("row"), wm("wm"), tile("tile"), half("half"), g("g"), neighbour("neighbour"), t("t"), group("group"), wn("wn"), column("column"), lane("l"), warp("w"), eb("eb");
    out.split(op.m, op.row_tile, row, op.tile_rows, TailStrategy::GuardWithIf).split(row, wm, row, op.warp_rows).split(row, tile, row, kTileRows).split(row, half, g, 8);
    std::vector<VarOrRVar> inner = {neighbour};
    Var members("members"), head("head");
    if (op.head_dim == 0) {
        // Neighbours first: the width is a multiple of them, so that whole vectors are guarded.
        out.split(op.d, column, neighbour, kNeighbours, TailStrategy::RoundUp)
            .split(column, op.column_tile, column, op.tile_columns / kNeighbours, TailStrategy::GuardWithIf)
            .split(column, wn, column, ProjectTensorCore::kWarpColumns / kNeighbours)
            .split(column, group, t, kColumnsOfGroup / kNeighbours);
        inner.insert(inner.end(), {op.h});
    } else {
        out.bound(op.d, 0, op.head_dim).split(op.h, op.column_tile, head, op.tile_columns / op.head_dim, TailStrategy::GuardWithIf);
        out.split(op.d, group, column, op.head_dim / 2);
        if (op.head_dim < ProjectTensorCore::kWarpColumns) {
            out.split(head, wn, head, ProjectTensorCore::kWarpColumns / op.head_dim).split(column, members, neighbour, kNeighbours).fuse(members, head, t);
        } else if (op.head_dim == ProjectTensorCore::kWarpColumns) {
            out.split(column, t, neighbour, kNeighbours);
            wn = head;
        } else {
            out.split(column, members, column, kColumnsOfGroup).fuse(members, head, wn).split(column, t, neighbour, kNeighbours);
        }
    }
    out.fuse(t, g, lane).fuse(op.e, op.b, eb);
    const Var first = op.terms_of_half ? group : half, second = op.terms_of_half ? half : group;
    inner.insert(inner.end(), {first, second});
    if (op.warpgroups) {
        inner.emplace_back(wn);
        out.unroll(wn);
        warp = wm;
    } else {
        out.fuse(wm, wn, warp);
    }
    inner.insert(inner.end(), {tile, lane, warp, op.column_tile, op.row_tile, eb});
    out.reorder(inner).vectorize(neighbour).unroll(half).unroll(group).unroll(tile).gpu_blocks(op.column_tile, op.row_tile, eb).gpu_threads(lane, warp);
    if (op.rotary) {
        op.turn.compute_at(out, first);
    }
}

// Sums of a warp's own products, or tokens of a warpgroup's, from which the sums are read.
void schedule_products(ProjectTensorCore &op) {
    const Var &lane = op.lane, &warp = op.warp;
    if (!op.warpgroups) {
        const RVar product = op.steps.x, pair = op.steps.y;
        op.sums.update()
            .reorder(op.nt, op.mt, product, pair, op.column_tile, op.row_tile, op.e, op.b, lane, warp, op.stage)
            .unroll(op.nt)
            .unroll(op.mt)
            .unroll(product)
            .unroll(pair)
            .gpu_threads(lane, warp);
        return;
    }
    op.group_sums.compute_at(op.out, op.column_tile)
        .store_in(MemoryType::Register)
        .reorder_storage(lane, warp, op.column_tile, op.row_tile, op.e, op.b)
        .bound_extent(lane, kLanes)
        .bound_extent(warp, op.warps())
        .reorder(op.column_tile, op.row_tile, op.e, op.b, lane, warp)
        .gpu_threads(lane, warp);
    op.group_sums.update().reorder(op.column_tile, op.row_tile, op.e, op.b, lane, warp, op.stage).gpu_threads(lane, warp);
}

}  // namespace

// Knobs: a block's tile_rows x tile_columns, a warp's warp_rows x 64; blocks of 64 bytes of a row in a stage; stages: tiles in
// shared memory, of which all but one are on their way. On one H100, bf16, 128 x 128 with 3 stages of 1 block: 424 TFLOP/s at
// 8192 x 8192 x 8192 (rows x in x out), 324 at 4096 x 1024 x 3072, 265 at 16384 x 512 x 1536, where cuBLAS has 721 to 777, 555
// to 574, and 571 to 580; with 4 stages 415, 322 and 256; with 3 of 2 blocks 403, 296 and 234. 256 x 128 and 128 x 256, which
// read less from the L2 cache (0.5 GB in 0.1 ms at the last shape), leave room for one block of threads: 369, 274 and 222 at
// best; warps of 32 rows 240, 199 and 168; copies that stay in the L1 cache 346, 259 and 221. With rotation of two thirds of
// its heads, 8192 x 512 x 1536 takes 0.071 ms (moa bench --device cuda:0 --dtype bf16 --op project --shape
// rows4096_in512_heads24_dim64_b2_rotary16); twice the rows take 0.100 without. An activation that is only asked for at run
// time made the epilogue 7000 instructions, and 0.38 ms of twice the rows: rows that rotate have none.
//
// By warpgroups, same kind of GPU, one run: 128 x 256 with 4 stages of 2 blocks, 1 unfinished: 614, 432 and 313 TFLOP/s at the three
// shapes (the above then 438, 320 and 263); 128 x 128 with 2 stages, two blocks of threads at once: 511, 385 and 298, and the
// faster one below some 380 tiles and with rotation; 64 x 128 with 4 stages: the fastest below some 100 tiles (0.0085 ms for 0.0108 at
// 1024 x 512 x 512). Products before the copies of a stage: 1 to 15 % slower. Stores of 16 bytes, where Halide makes two of 8: 4 to 5 % (0.0815
// to 0.0782 ms at 16384 x 512 x 1536). Rotation in 128 registers, two blocks of threads at once, in place of 184: 0.057 ms for 0.086 at
// rows2048_in512_heads24_dim64_ln_rotary16_b4 (moa bench --op project); that many spill unless terms are read again for a lane's second row.
void schedule_project_tensor_core_cuda(ProjectTensorCore &op, const Target &, const Values &) {
    schedule_out(op);
    const Var per_block = op.column_tile;
    const int warps = op.warps();
    const Var &lane = op.lane, &warp = op.warp, &nt = op.nt, &mt = op.mt;
    op.sums.compute_at(op.out, per_block)
        .store_in(MemoryType::Register)
        .reorder_storage(lane, warp, nt, mt, op.column_tile, op.row_tile, op.e, op.b)
        .bound_extent(lane, kLanes)
        .bound_extent(warp, warps)
        .bound_extent(nt, op.warp_columns() / kTileColumns)
        .bound_extent(mt, op.warp_rows / kTileRows)
        .reorder(nt, mt, op.column_tile, op.row_tile, op.e, op.b, lane, warp)
        .unroll(nt)
        .unroll(mt)
        .gpu_threads(lane, warp);
    schedule_products(op);

    const int elements = kCopyBytes / op.x.type().bytes();
    // What is the same for a whole block of threads.
    for (Func *f : {&op.group_sums, &op.sums, &op.own_source, &op.x_tile, &op.w_tile, &op.row_terms, &op.column_terms}) {
        for (const Var &one : {op.column_tile, op.row_tile, op.e, op.b}) {
            for (const Var &own : f->args()) {
                if (own.name() == one.name()) {
                    f->bound_extent(one, 1);
                }
            }
        }
    }
    // Stored outside the loop over stages, computed inside: a sliding window, hence a ring buffer.
    Var task("task"), round("round"), li("li"), wi("wi");
    for (Func *tile : {&op.x_tile, &op.w_tile}) {
        const int rows = tile == &op.x_tile ? op.tile_rows : op.tile_columns;
        tile->store_at(op.out, per_block)
            .compute_at(op.warpgroups ? op.group_sums : op.sums, op.stage)
            .store_in(MemoryType::GPUShared)
            .fold_storage(op.k, op.stages)
            .bound(op.v, 0, elements)
            .bound(op.place, 0, op.chunks())
            .bound(op.y, 0, rows)
            .vectorize(op.v)
            .fuse(op.place, op.y, task)
            .split(task, task, li, kLanes)
            .split(task, round, wi, warps)
            .reorder(op.v, round, li, wi)
            .unroll(round)
            .gpu_threads(li, wi);
    }
    op.own_source.compute_at(op.out, per_block)
        .store_in(MemoryType::Register)
        .reorder_storage(lane, warp, op.round, op.row_tile, op.e, op.b)
        .bound_extent(lane, kLanes)
        .bound_extent(warp, warps)
        .bound_extent(op.round, op.tile_rows * op.chunks() / (kLanes * warps))
        .reorder(op.round, op.row_tile, op.e, op.b, lane, warp)
        .unroll(op.round)
        .gpu_threads(lane, warp);
    for (Func *terms : {&op.row_terms, &op.column_terms}) {
        const int count = terms == &op.row_terms ? op.tile_rows : op.tile_columns;
        terms->compute_at(op.out, per_block).store_in(MemoryType::GPUShared).bound_extent(op.y, count).split(op.y, wi, li, kLanes);
        if (op.warpgroups) {
            terms->align_storage(op.y, kAlignedTerms);
        }
        if (count > warps * kLanes) {
            terms->split(wi, round, wi, warps).reorder(round, li, wi).unroll(round);
        }
        if (terms == &op.column_terms) {
            terms->bound_extent(op.half, op.terms_of_half ? 2 : 1).reorder(op.half, li, wi).unroll(op.half);
        }
        terms->gpu_threads(li, wi);
    }

    op.x.dim(0).set_min(0).set_stride(1);
    op.weights.dim(0).set_bounds(0, 1);
    op.weights.dim(1).set_min(0).set_stride(1);
    for (int i = 1; i < 3; i++) {
        op.x.dim(i).set_min(0).set_stride(op.x.dim(i).stride() / elements * elements);
    }
    for (int i = 2; i < 4; i++) {
        op.weights.dim(i).set_min(0).set_stride(op.weights.dim(i).stride() / elements * elements);
    }
    if (op.rotary) {
        for (ImageParam *table : {&op.cosines, &op.sines}) {
            table->dim(0).set_min(0).set_stride(1);
            for (int i = 1; i < 4; i++) {
                table->dim(i).set_min(0).set_stride(table->dim(i).stride() / cuda::kVector * cuda::kVector);
            }
            table->set_host_alignment(kCopyBytes);
        }
    }
    OutputImageParam out = op.out.output_buffer();
    const int out_elements = kCopyBytes / out.type().bytes();
    out.dim(0).set_min(0).set_stride(1);
    for (int i = 1; i < 5; i++) {
        out.dim(i).set_stride(out.dim(i).stride() / out_elements * out_elements);
    }
    if (op.head_dim == 0) {
        out.dim(0).set_extent(out.dim(0).extent() / kNeighbours * kNeighbours);
        out.dim(2).set_bounds(0, 1);
    } else {
        out.dim(0).set_bounds(0, op.head_dim);
    }
    op.x.set_host_alignment(kCopyBytes);
    op.weights.set_host_alignment(kCopyBytes);
    out.set_host_alignment(kCopyBytes);
}

MOA_SCHEDULE(ProjectTensorCore, cuda, schedule_project_tensor_core_cuda);

}  // namespace moa
