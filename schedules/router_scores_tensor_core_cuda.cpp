#include "generators/router_scores_tensor_core.h"
#include "generators/tensor_core/fragment.h"
#include "generators/tensor_core/instructions.h"
#include "schedules/cuda.h"

#include <algorithm>

namespace moa {

using namespace Halide;
using namespace moa::tensor_core;

// Knobs: warps of a block. One kernel writes both outputs: they share the loops over blocks, which are three because Halide
// finds a block's rows again only where none of its loops is fused of two.
//
// On one H100 at 4 x 32768 positions of 1024 channels and 8 routers: 0.120 ms in bf16, 0.121 in f16, 0.217 in f32, which is 76,
// 76 and 84 % of the bandwidth of copies (moa bench --op router_scores --shape n32768_c1024_r8_b4 --device cuda:0 --dtype bf16).
// What counts is how many warps there are: 8 a block took 0.131, two or four groups of channels a lane at once 0.123 and
// 0.124. Tokens as three pieces of bf16 are 52 instructions for a lane's 8 channels, as two of tf32 they are 24.
void schedule_router_scores_tensor_core_cuda(RouterScoresTensorCore &op, const Target &, const Values &) {
    using Op = RouterScoresTensorCore;
    const int warps = op.warps;
    const Var &lane = op.lane, &warp = op.warp, &half = op.half, &row = op.row, &router = op.router, &router_tile = op.router_tile, &row_tile = op.row_tile;
    const RVar product = op.channels.x, batch = op.channels.y;
    Var task("task"), round("round"), li("li"), wi("wi"), group("group"), pair("pair"), low("low");
    cuda::begin_at_zero(op.x, op.tokens, op.scores.output_buffer(), op.stats.output_buffer());
    for (Func f : {op.scores, op.stats}) {
        f.bound(op.n, 0, op.x.dim(1).extent()).bound(op.b, 0, op.x.dim(2).extent());
        f.split(op.n, row_tile, row, kTileRows, TailStrategy::GuardWithIf);
    }
    op.scores.split(op.r, router_tile, router, Op::kRouters, TailStrategy::GuardWithIf)
        .fuse(row, router, task)
        .split(task, wi, li, kLanes)
        .split(wi, round, wi, std::min(warps, kTileRows * Op::kRouters / kLanes))
        .reorder(round, li, wi, row_tile, router_tile, op.b)
        .gpu_blocks(row_tile, router_tile, op.b)
        .gpu_threads(li, wi);
    op.stats.bound(op.r, 0, RowMoments::kStatistics)
        .split(op.r, router_tile, op.r, RowMoments::kStatistics)
        .reorder(op.r, row, row_tile, router_tile, op.b)
        .unroll(op.r)
        .gpu_blocks(row_tile, router_tile, op.b)
        .gpu_threads(row);
    op.stats.compute_with(op.scores, row_tile);

    const LoopLevel per_block(op.scores, row_tile);
    op.sums.compute_at(per_block)
        .store_in(MemoryType::Register)
        .bound_extent(lane, kLanes)
        .bound_extent(warp, warps)
        .reorder(row_tile, router_tile, op.b, lane, warp)
        .gpu_threads(lane, warp);
    op.sums.update().reorder(product, row_tile, router_tile, op.b, batch, lane, warp).unroll(product).gpu_threads(lane, warp);
    op.pivot.compute_at(op.sums, lane).bound_extent(half, 2).unroll(half);
    op.x_words.compute_at(op.sums, batch).bound_extent(op.v, kWordsOfCopy).bound_extent(half, 2);
    op.x_words.specialize(op.in_copies).reorder(op.v, half).unroll(op.v).unroll(half);
    op.x_words.reorder(half, op.v).unroll(op.v).unroll(half);
    op.token_values.compute_at(op.sums, batch).bound_extent(op.v, op.group()).unroll(op.v).specialize(op.in_copies);
    op.token_words.compute_at(op.sums, batch).bound_extent(op.v, op.group()).bound_extent(op.piece, Op::kPieces).unroll(op.v).unroll(op.piece);

    op.products.compute_at(per_block)
        .store_in(MemoryType::GPUShared)
        .bound_extent(router, Op::kRouters)
        .bound_extent(row, kTileRows)
        .bound_extent(warp, warps)
        .split(row, half, group, 8)
        .split(router, pair, low, 2)
        .fuse(pair, group, lane)
        .reorder(low, half, lane, warp)
        .unroll(low)
        .unroll(half)
        .gpu_threads(lane, warp);
    op.segments.compute_at(per_block)
        .store_in(MemoryType::GPUShared)
        .bound_extent(op.member, Op::kMembers)
        .bound_extent(row, kTileRows)
        .bound_extent(warp, warps)
        .split(row, half, group, 8)
        .fuse(op.member, group, lane)
        .reorder(half, lane, warp)
        .unroll(half)
        .gpu_threads(lane, warp);
    op.moments.compute_at(per_block).store_in(MemoryType::GPUShared).bound_extent(row, kTileRows).gpu_threads(row);

    op.token_parts.compute_at(per_block).store_in(MemoryType::GPUShared).bound_extent(lane, kLanes).bound_extent(router, Op::kRouters);
    for (Stage stage : {Stage(op.token_parts), op.token_parts.update()}) {
        stage.split(router, round, warp, std::min(warps, Op::kRouters)).gpu_threads(lane, warp);
    }
    op.token_parts.reorder(round, lane, warp);
    op.token_parts.update().reorder(op.squared, round, lane, warp);
    op.token_squares.compute_at(per_block).store_in(MemoryType::GPUShared).bound_extent(router, Op::kRouters).gpu_threads(router);
    op.token_squares.update().unroll(op.squared_lanes, 8).gpu_threads(router);

    // What is the same for a whole block of threads.
    for (Func *f : {&op.sums, &op.pivot, &op.x_words, &op.token_values, &op.token_words, &op.products, &op.segments, &op.moments, &op.token_parts, &op.token_squares}) {
        for (const Var &one : {row_tile, router_tile, op.b}) {
            for (const Var &own : f->args()) {
                if (own.name() == one.name()) {
                    f->bound_extent(one, 1);
                }
            }
        }
    }
}

MOA_SCHEDULE(RouterScoresTensorCore, cuda, schedule_router_scores_tensor_core_cuda);

}  // namespace moa
