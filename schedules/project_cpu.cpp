#include "generators/project.h"

#include <algorithm>

namespace moa {

using namespace Halide;

namespace {

void schedule_vectors(Project &op, const Var &tile, int vector, int panel, int pair, int tile_rows) {
    op.product.compute_at(op.sums, tile)
        .bound_extent(op.i, panel)
        .bound_extent(op.m, tile_rows)
        .vectorize(op.i, vector)
        .unroll(op.i)
        .unroll(op.m);
    Stage update = op.product.update();
    if (pair == 1) {
        update.reorder(op.i, op.m, op.block_channels);
    } else {
        update.reorder(op.block_channels.x, op.i, op.m, op.block_channels.y).atomic().vectorize(op.block_channels.x);
    }
    update.vectorize(op.i, vector).unroll(op.i).unroll(op.m);
}

// One AMX accumulator of 16 x 16 sums, stored for every block of channels. Halide knows a tile by the shape of its indices
// (ExtractTileOperations.cpp): rows of what is loaded and stored must not be dense, hence the pitch of the stored tile.
void schedule_tiles(Project &op, const Var &tile, int panel, int tile_rows) {
    constexpr int kPitch = 32;
    op.product.in().compute_at(op.sums, tile).align_storage(op.i, kPitch);
    op.product.compute_at(op.sums, tile).store_in(MemoryType::AMXTile);
    for (Func f : {op.product, op.product.in()}) {
        f.bound_extent(op.i, panel).bound_extent(op.m, tile_rows).vectorize(op.i).vectorize(op.m);
    }
    op.product.update()
        .reorder(op.block_channels.x, op.i, op.m, op.block_channels.y)
        .atomic()
        .vectorize(op.block_channels.x)
        .vectorize(op.i)
        .vectorize(op.m);
}

}  // namespace

// Knobs: panel x tile_rows, the register tile; rows x columns, a task's part of the output. Where heads are rotated, they must
// not be wider than columns. On 2 cores of an AVX-512 EPYC (Zen 4) one thread reaches 99 to 103 GFLOP/s in f32 (torch.matmul
// 90 to 95, peak 116) and 183 to 200 in bf16 with panel 32 x 12 rows; the rows need no transposition, since the tile
// broadcasts them, but a row pitch that is no power of two.
void schedule_project_cpu(Project &op, const Target &target, const Values &knobs) {
    const int vector = target.natural_vector_size<float>();
    const int panel = knobs("panel"), pair = knobs.get("pair", 1), tile_rows = knobs("tile_rows");
    const int rows = knobs("rows"), columns = knobs("columns");
    const bool plain = knobs.get("plain", 0) != 0;
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
    } else {
        op.out.split(op.d, block_d, di, min(width, columns), TailStrategy::GuardWithIf)
            .reorder(di, mi, hi, block_d, block_h, block_m, op.e, op.b)
            .vectorize(di, vector, TailStrategy::GuardWithIf);
    }
    op.out.fuse(block_d, block_h, task)
        .fuse(task, block_m, task)
        .fuse(task, op.e, task)
        .fuse(task, op.b, task)
        .parallel(task);
    if (!plain) {
        op.value.compute_at(op.out, mi).store_in(MemoryType::Stack).bound_storage(op.d, columns).vectorize(op.d, vector, TailStrategy::GuardWithIf);
        op.value.specialize(op.activation == 0);
    }
    op.row_factor.compute_at(op.out, task).store_in(MemoryType::Stack).bound_extent(op.m, rows);
    op.row_shift.compute_at(op.out, task).store_in(MemoryType::Stack).bound_extent(op.m, rows);
    op.source.compute_at(op.out, task).store_in(MemoryType::Stack).bound_extent(op.m, rows);

    op.column_terms.compute_at(op.out, task).store_in(MemoryType::Stack).bound_storage(op.o, columns);

    // Rows are rounded up to whole tiles, not to a whole task: 1024 rows are 1032 then, not 1056.
    op.sums.compute_at(op.out, task)
        .store_in(MemoryType::Stack)
        .bound_extent(op.i, panel)
        .bound_storage(op.m, rows)
        .bound_storage(op.p, columns / panel + (plain ? 0 : 2))
        .vectorize(op.i, vector)
        .unroll(op.i);
    op.sums.update()
        .split(op.m, tile, row, tile_rows, TailStrategy::RoundUp)
        .reorder(op.i, row, tile, op.p, op.blocks)
        .vectorize(op.i, vector)
        .unroll(op.i)
        .unroll(row);
    op.packed.compute_at(op.sums, op.blocks)
        .store_in(MemoryType::Stack)
        .bound_extent(op.c, op.block)
        .bound_storage(op.m, rows)
        .align_storage(op.c, op.block + (knobs.get("tiles", 0) != 0 ? 32 : 16))  // tiles want rows on cache lines
        .vectorize(op.c, 2 * vector);
    if (knobs.get("tiles", 0) != 0) {
        schedule_tiles(op, tile, panel, tile_rows);
    } else {
        schedule_vectors(op, tile, vector, panel, pair, tile_rows);
    }

    op.x.dim(0).set_min(0).set_stride(1);
    op.weights.dim(0).set_bounds(0, panel * pair).set_stride(1);
    op.weights.dim(1).set_min(0).set_stride(panel * pair);
    op.out.output_buffer().dim(0).set_min(0).set_stride(1);
}

MOA_SCHEDULE(Project, cpu, schedule_project_cpu);

}  // namespace moa
