#include "generators/attention.h"

namespace moa {

using namespace Halide;

namespace {

// Matrix tiles of AMX, as in project_cpu.cpp: what leaves them is stored with a pitch that keeps rows from being dense.
void schedule_tiles(Attention &a, int vector, int rows, int block, int head_dim) {
    constexpr int kTile = Attention::kTile, kStep = Attention::kTileChannels;
    Var group("group"), place("place"), member("member");
    for (Func f : {a.product, a.mix}) {
        f.store_in(MemoryType::AMXTile);
        f.in().align_storage(a.i, 2 * kTile);
        for (Func tile : {f, f.in()}) {
            tile.bound_extent(a.i, kTile).vectorize(a.i);
        }
    }
    a.score.bound_extent(a.key, block).split(a.key, group, a.key, kTile).split(a.i, a.m, a.i, kTile).reorder(a.i, a.key, a.m, group).vectorize(a.i).unroll(a.key);
    a.mixed.split(a.d, group, a.d, kTile).split(a.i, a.m, a.i, kTile).reorder(a.i, a.d, a.m, group).vectorize(a.i).unroll(a.d);
    for (Func f : {a.product, a.product.in()}) {
        f.compute_at(a.score, a.m).bound_extent(a.key, kTile).vectorize(a.key);
    }
    for (Func f : {a.mix, a.mix.in()}) {
        f.compute_at(a.mixed, a.m).bound_extent(a.d, kTile).vectorize(a.d);
    }
    a.product.update().reorder(a.channels.x, a.i, a.key, a.channels.y).atomic().vectorize(a.channels.x).vectorize(a.i).vectorize(a.key);
    a.mix.update().reorder(a.mix_keys.x, a.i, a.d, a.mix_keys.y).atomic().vectorize(a.mix_keys.x).vectorize(a.i).vectorize(a.d);

    a.queries.bound_extent(a.x, 2 * kTile).bound_extent(a.g, rows / kTile * head_dim / 2).split(a.x, place, member, 2).reorder(member, a.g, place).vectorize(member).unroll(a.g, 4);
    a.weight.bound_extent(a.x, 2 * kTile)
        .bound_extent(a.g, rows / kTile * block / 2)
        .split(a.x, place, member, 2)
        .reorder(member, place, a.g)
        .vectorize(place)
        .unroll(member);
    a.block_sum.update().reorder(a.sum_keys.x, a.i, a.sum_keys.y).vectorize(a.i, kTile).unroll(a.sum_keys.x).unroll(a.i);
    for (Func f : {a.keys, a.values, a.value_rows}) {
        f.compute_at(a.state, a.steps.y).store_in(MemoryType::Stack).bound_extent(a.key, block).bound_extent(a.d, head_dim);
    }
    a.keys.align_storage(a.d, head_dim + kStep).vectorize(a.d, 2 * vector);
    a.value_rows.vectorize(a.d, 2 * vector);
    // Transposed in squares that lie in registers.
    Var key_group("key_group");
    a.values.align_storage(a.key, block + kStep)
        .split(a.key, key_group, a.key, 2 * kTile)
        .split(a.d, group, a.d, kTile)
        .reorder(a.key, a.d, group, key_group)
        .vectorize(a.key)
        .unroll(a.d);
    a.value_rows.in(a.values)
        .compute_at(a.values, group)
        .bound_extent(a.key, 2 * kTile)
        .bound_extent(a.d, kTile)
        .reorder_storage(a.key, a.d, a.j)
        .reorder(a.key, a.d)
        .vectorize(a.key)
        .vectorize(a.d);
}

// Register tiles of vectors along the rows.
void schedule_registers(Attention &a, int vector, int bound, const Values &knobs) {
    const int rows = knobs("rows"), block = knobs("keys"), tile_keys = knobs("tile_keys"), tile_channels = knobs("tile_channels");
    const int head_dim = knobs.get("head_dim", 0), padded = (bound + tile_channels - 1) / tile_channels * tile_channels;
    Var group("group");
    for (Func f : {a.queries, a.weight}) {
        f.bound_extent(a.i, rows);
    }
    a.score.bound_extent(a.key, block).split(a.key, group, a.key, tile_keys).reorder(a.i, a.key, group).vectorize(a.i, vector).unroll(a.i).unroll(a.key);
    a.product.compute_at(a.score, group).bound_extent(a.i, rows).vectorize(a.i, vector).unroll(a.i).unroll(a.key);
    if (padded != 0) {
        a.mixed.bound_storage(a.d, padded);
    }
    a.mixed.split(a.d, group, a.d, tile_channels, TailStrategy::RoundUp)
        .reorder(a.i, a.d, group)
        .vectorize(a.i, vector)
        .unroll(a.i)
        .unroll(a.d);
    a.mix.compute_at(a.mixed, group).bound_extent(a.i, rows).vectorize(a.i, vector).unroll(a.i).unroll(a.d);
    if (knobs.get("pair", 1) == 2) {
        a.queries.bound_extent(a.l, 2).bound_extent(a.d, head_dim / 2).reorder(a.l, a.i, a.d).vectorize(a.l).unroll(a.i, 4);
        a.product.update().reorder(a.channels.x, a.i, a.key, a.channels.y).atomic().vectorize(a.channels.x).vectorize(a.i, vector).unroll(a.i).unroll(a.key).unroll(a.channels.y, 2);
        a.weight.bound_extent(a.l, 2).bound_extent(a.k2, block / 2).reorder(a.l, a.i, a.k2).vectorize(a.i, vector).unroll(a.l).unroll(a.i);
        a.ones.compute_root().bound_extent(a.l, 2);
        a.block_sum.update().reorder(a.sum_keys.x, a.i, a.sum_keys.y).atomic().vectorize(a.sum_keys.x).vectorize(a.i, vector).unroll(a.i).unroll(a.sum_keys.y, 4);
        a.values.compute_at(a.state, a.steps.y)
            .store_in(MemoryType::Stack)
            .bound_extent(a.l, 2)
            .bound_extent(a.d, head_dim)
            .bound_extent(a.k2, block / 2)
            .reorder(a.l, a.d, a.k2)
            .vectorize(a.d, vector)
            .unroll(a.l)
            .unroll(a.d);
        a.mix.update().reorder(a.mix_keys.x, a.i, a.d, a.mix_keys.y).atomic().vectorize(a.mix_keys.x).vectorize(a.i, vector).unroll(a.i).unroll(a.d).unroll(a.mix_keys.y, 2);
        return;
    }
    if (bound != 0) {
        a.queries.bound_storage(a.d, bound);
    }
    a.queries.vectorize(a.i, vector);
    a.product.update().reorder(a.i, a.key, a.channels).vectorize(a.i, vector).unroll(a.i).unroll(a.key).unroll(a.channels, 2, TailStrategy::GuardWithIf);
    a.weight.bound_extent(a.key, block).reorder(a.i, a.key).vectorize(a.i, vector).unroll(a.i).unroll(a.key, 2);
    a.block_sum.update().reorder(a.i, a.sum_keys).vectorize(a.i, vector).unroll(a.i).unroll(a.sum_keys, 4);
    a.mix.update().reorder(a.i, a.d, a.mix_keys).vectorize(a.i, vector).unroll(a.i).unroll(a.d).unroll(a.mix_keys, 2);
    if (knobs.get("widen", 0) != 0) {
        for (Func f : {a.keys, a.values}) {
            if (padded != 0) {
                f.bound_storage(a.d, padded);
            }
            f.compute_at(a.state, a.steps.y)
                .store_in(MemoryType::Stack)
                .bound_extent(a.key, block)
                .vectorize(a.d, vector, head_dim == 0 ? TailStrategy::GuardWithIf : TailStrategy::Auto);
        }
    }
}

}  // namespace

// Knobs: rows x tile_keys, the register tile of scores; rows x tile_channels, that of the outputs; keys of a block;
// widen = 1 copies a block's keys and values to f32 first, for bf16 storage without instructions for it; row_tiles tiles of
// rows share a block of keys and values while it is near (heads of 64, 4096 keys, 2 cores, moa_ops_bench: two tiles of 96 rows
// are 1.04x as fast as one on AVX-512, eight of 16 are 1.11x on AVX2); widest, the widest head of a row for any width (without
// it there is no bound, and what a task keeps is as large as the call's heads are).
void schedule_attention_cpu(Attention &a, const Target &target, const Values &knobs) {
    const int vector = target.natural_vector_size<float>();
    const int rows = knobs("rows"), block = knobs("keys");
    const int head_dim = knobs.get("head_dim", 0), bound = head_dim == 0 ? knobs.get("widest", 0) : head_dim;
    const int tiles = knobs.get("row_tiles", 1);
    Var task("task"), head("head"), part("part"), tile("tile");

    // Heads are split by 1: of loops that fusing recovers with a remainder of a remainder, Halide knows the value only if they
    // are split, and makes room for all heads otherwise.
    a.out.split(a.y, a.t, a.y, rows, TailStrategy::GuardWithIf)
        .split(a.t, a.t, tile, tiles, TailStrategy::GuardWithIf)
        .split(a.h, head, a.h, 1)
        .reorder(a.d, a.y, tile, a.h, a.t, head, a.e, a.b)
        .fuse(a.t, head, task)
        .fuse(task, a.e, task)
        .fuse(task, a.b, task)
        .parallel(task)
        .vectorize(a.d, vector, head_dim == 0 ? TailStrategy::GuardWithIf : TailStrategy::Auto);
    a.state.compute_at(a.out, task).store_in(MemoryType::Stack).bound_extent(a.i, rows).vectorize(a.i, vector);
    if (bound != 0) {
        a.state.bound_storage(a.c, bound + Attention::kOutput);
    }
    a.state.update()
        .split(a.i, part, a.i, vector)
        .reorder(a.i, a.steps.x, part, a.t, a.steps.y)
        .vectorize(a.i);
    if (head_dim != 0) {
        a.state.update().unroll(a.steps.x);  // the selects fold
        a.state.bound_extent(a.c, head_dim + Attention::kOutput);
    }
    a.null_score.compute_at(a.out, task).store_in(MemoryType::Stack).bound_extent(a.i, rows).vectorize(a.i, vector).update().vectorize(a.i, vector);
    a.any_valid.compute_at(a.out, task).store_in(MemoryType::Stack);
    a.queries.compute_at(a.out, task).store_in(MemoryType::Stack);

    for (Func f : {a.queries, a.null_score, a.state}) {
        // Matrix tiles are not known as such with a second tile of rows in their indices.
        if (tiles == 1) {
            f.bound_extent(a.t, 1);
        } else {
            f.bound_storage(a.t, tiles);
        }
    }
    // Without a place on the stack each block's arrays would be allocated anew.
    for (Func f : {a.score, a.block_maximum, a.block_sum, a.mixed}) {
        f.compute_at(a.state, a.t).store_in(MemoryType::Stack).bound_extent(a.i, rows);
    }
    a.weight.compute_at(a.state, a.t).store_in(MemoryType::Stack);
    a.block_maximum.vectorize(a.i, vector).unroll(a.i).update().reorder(a.i, a.maximum_keys).vectorize(a.i, vector).unroll(a.i).unroll(a.maximum_keys, 4);
    a.block_sum.vectorize(a.i, vector).unroll(a.i);
    if (knobs.get("tiles", 0) != 0) {
        schedule_tiles(a, vector, rows, block, head_dim);
    } else {
        schedule_registers(a, vector, bound, knobs);
    }
}

MOA_SCHEDULE(Attention, cpu, schedule_attention_cpu);

}  // namespace moa
