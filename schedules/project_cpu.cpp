#include "generators/project.h"

#include <algorithm>

namespace moa {

using namespace Halide;

namespace {

void schedule_vectors(Project &op, const LoopLevel &tile, int vector, const Values &knobs) {
    const int panel = knobs("panel"), pair = knobs.get("pair", 1), tile_rows = knobs("tile_rows"), ahead = knobs.get("ahead", 0);
    op.product.compute_at(tile)
        .bound_extent(op.i, panel)
        .bound_extent(op.m, tile_rows)
        .vectorize(op.i, vector)
        .unroll(op.i)
        .unroll(op.m);
    Stage update = op.product.update();
    const RVar group = pair == 1 ? RVar(op.block_channels) : op.block_channels.y;
    if (pair == 1) {
        update.reorder(op.i, op.m, group);
    } else {
        update.reorder(op.block_channels.x, op.i, op.m, group).atomic().vectorize(op.block_channels.x);
    }
    update.vectorize(op.i, vector).unroll(op.i).unroll(op.m);
    if (ahead > 0) {
        update.prefetch(op.weights, group, group, ahead, PrefetchBoundStrategy::NonFaulting);
    }
}

// AMX accumulators of 16 x 16 sums, stored for every block of channels; those of a panel x tile_rows are multiplied side by side
// (codegen/tiles.h). Halide knows a tile by the shape of its indices (ExtractTileOperations.cpp): rows of what is loaded and
// stored must not be dense, hence the pitch of the stored tile.
void schedule_tiles(Project &op, const Var &tile, int panel, int tile_rows) {
    constexpr int kTile = 16, kPitch = 32;
    Var across("across"), down("down");
    Func stored = op.product.in();
    stored.compute_at(op.sums, tile)
        .align_storage(op.i, kPitch)
        .bound_extent(op.i, panel)
        .bound_extent(op.m, tile_rows)
        .split(op.i, across, op.i, kTile)
        .split(op.m, down, op.m, kTile)
        .reorder(op.i, op.m, across, down)
        .vectorize(op.i)
        .vectorize(op.m)
        .unroll(across)
        .unroll(down);
    op.product.compute_at(stored, across).store_in(MemoryType::AMXTile).bound_extent(op.i, kTile).bound_extent(op.m, kTile).vectorize(op.i).vectorize(op.m);
    for (int update = 0; update < op.product.num_update_definitions(); update++) {
        const RDom &channels = update + 1 < op.product.num_update_definitions() ? op.small_channels : op.block_channels;
        op.product.update(update)
            .unroll(channels.z)
            .reorder(channels.x, op.i, op.m, channels.z, channels.y)
            .atomic()
            .vectorize(channels.x)
            .vectorize(op.i)
            .vectorize(op.m);
    }
}

void schedule_sums(Project &op, const LoopLevel &task, int vector, const Values &knobs) {
    const int panel = knobs("panel"), tile_rows = knobs("tile_rows"), rows = knobs("rows"), columns = knobs("columns");
    const bool tiles = knobs.get("tiles", 0) != 0, whole = knobs.get("whole", 0) != 0;
    Var tile("tile"), row("row"), group("group"), lane("lane");
    op.sums.compute_at(task)
        .store_in(MemoryType::Stack)
        .bound_extent(op.i, panel)
        .bound_storage(op.m, rows);
    if (knobs.get("wide", 0) == 0) {
        op.sums.bound_storage(op.p, columns / panel + (knobs.get("plain", 0) != 0 ? 0 : 2));
    }
    if (!whole) {
        op.sums.vectorize(op.i, vector).unroll(op.i);
    }
    // Rows are rounded up to whole tiles, not to a whole task: 1024 rows are 1032 then, not 1056.
    Stage sums = whole ? Stage(op.sums) : op.sums.update();
    sums.split(op.m, tile, row, tile_rows, TailStrategy::RoundUp).vectorize(op.i, vector).unroll(op.i).unroll(row);
    if (whole) {
        sums.reorder(op.i, row, tile, op.p);
        schedule_vectors(op, LoopLevel(op.sums, tile), vector, knobs);
        return;
    }
    sums.reorder(op.i, row, tile, op.p, op.blocks);
    op.packed.compute_at(op.sums, op.blocks)
        .store_in(MemoryType::Stack)
        .bound_extent(op.c, op.block)
        .bound_storage(op.m, rows)
        .align_storage(op.c, op.block + (tiles ? 32 : 16))  // tiles want rows on cache lines
        .bound_extent(op.s, op.pieces)
        .split(op.c, group, lane, 2 * vector)
        .reorder(lane, op.s, group)
        .vectorize(lane)
        .unroll(op.s);
    if (tiles) {
        schedule_tiles(op, tile, panel, tile_rows);
    } else {
        schedule_vectors(op, LoopLevel(op.sums, tile), vector, knobs);
    }
}

}  // namespace

// Knobs: panel x tile_rows, the register tile; rows x columns, a task's part of the output; ahead, how many groups of channels
// weights are fetched ahead of their use; widest, with whole = 1 the most input channels there may be. Where heads are
// rotated, they must not be wider than columns, unless wide is 1: then a task has one head, of any width. All channels at once spare the sums a trip through the cache for each block:
// 512 channels in 1.05 to 1.09 x the rate of blocks of 128 (AVX-512, plain, 2 cores, moa_ops_bench); without gain on AVX2, and
// a loss of 9 % for pairs of bf16. On 2 cores of an AVX-512 EPYC (Zen 4) one thread reaches 99 to 103 GFLOP/s in f32 (torch.matmul
// 90 to 95, peak 116) and 183 to 200 in bf16 with panel 32 x 12 rows; the rows need no transposition, since the tile
// broadcasts them, but a row pitch that is no power of two.
//
// With tiles, four accumulators side by side are 1.17 x as fast as one in bf16. Pieces of f32 on them are 1.40 x as fast as the
// AVX-512 row at 4096 rows, 512 x 512, and 1.32 x at 4 x 1024 gathered rows, 512 x 1024 (2 cores, moa_ops_bench, medians of 5
// alternated runs); in blocks of 128 channels 1.27 and 1.17, in tasks of 512 columns 1.45 and 1.22.
void schedule_project_cpu(Project &op, const Target &target, const Values &knobs) {
    const int vector = target.natural_vector_size<float>();
    const int panel = knobs("panel"), pair = knobs.get("pair", 1), tile_rows = knobs("tile_rows");
    const int rows = knobs("rows"), columns = knobs("columns");
    const bool plain = knobs.get("plain", 0) != 0, whole = knobs.get("whole", 0) != 0, wide = knobs.get("wide", 0) != 0;
    Var block_m("block_m"), mi("mi"), block_h("block_h"), hi("hi"), block_d("block_d"), di("di"), task("task"), tile("tile"), row("row");

    // A task is rows x columns of the output: several heads, or a part of a wide one.
    const Expr width = op.cosines.dim(0).extent();
    op.out.split(op.m, block_m, mi, rows, TailStrategy::GuardWithIf)
        .split(op.h, block_h, hi, max(columns / width, 1), TailStrategy::GuardWithIf);
    if (plain) {
        // Heads are whole panels. Said by a split, it makes the reads of sums dense; without it they are gathers, 13 % of all.
        op.out.output_buffer().dim(0).set_extent(op.out.output_buffer().dim(0).extent() / panel * panel);
        op.out.split(op.d, block_d, op.d, min(width, columns) / panel * panel, TailStrategy::GuardWithIf)
            .split(op.d, op.d, di, panel, TailStrategy::GuardWithIf)
            .reorder(di, op.d, mi, hi, block_d, block_h, block_m, op.e, op.b)
            .vectorize(di, vector)
            .unroll(di);
        if (whole) {
            // The epilogue takes a register tile of sums as it is.
            op.out.split(mi, tile, row, tile_rows, TailStrategy::GuardWithIf).reorder(di, row, tile, op.d, hi).unroll(row);
        }
    } else {
        op.out.split(op.d, block_d, di, wide ? width : min(width, columns), TailStrategy::GuardWithIf)
            .reorder(di, mi, hi, block_d, block_h, block_m, op.e, op.b)
            .vectorize(di, vector, TailStrategy::GuardWithIf);
    }
    op.out.fuse(block_d, block_h, task)
        .fuse(task, block_m, task)
        .fuse(task, op.e, task)
        .fuse(task, op.b, task)
        .parallel(task);
    if (!plain) {
        op.value.compute_at(op.out, mi).store_in(MemoryType::Stack).vectorize(op.d, vector, TailStrategy::GuardWithIf);
        if (!wide) {
            op.value.bound_storage(op.d, columns);
        }
        op.value.specialize(op.activation == 0);
    }
    op.row_factor.compute_at(op.out, task).store_in(MemoryType::Stack).bound_extent(op.m, rows);
    op.row_shift.compute_at(op.out, task).store_in(MemoryType::Stack).bound_extent(op.m, rows);
    op.source.compute_at(op.out, task).store_in(MemoryType::Stack).bound_extent(op.m, rows);

    op.column_terms.compute_at(op.out, task).store_in(MemoryType::Stack);
    if (!wide) {
        op.column_terms.bound_storage(op.o, columns);
    }

    if (whole) {
        op.packed.compute_at(op.out, task)
            .store_in(MemoryType::Stack)
            .bound_storage(op.c, knobs("widest") + 16)
            .bound_storage(op.m, rows)
            .vectorize(op.c, 2 * vector, TailStrategy::GuardWithIf);
    }
    if (whole && plain) {
        schedule_vectors(op, LoopLevel(op.out, tile), vector, knobs);
        op.product.bound_extent(op.p, 1);
    } else {
        schedule_sums(op, LoopLevel(op.out, task), vector, knobs);
    }

    op.x.dim(0).set_min(0).set_stride(1);
    op.weights.dim(0).set_bounds(0, panel * pair).set_stride(1);
    op.weights.dim(1).set_min(0).set_stride(panel * pair);
    op.out.output_buffer().dim(0).set_min(0).set_stride(1);
}

MOA_SCHEDULE(Project, cpu, schedule_project_cpu);

}  // namespace moa
