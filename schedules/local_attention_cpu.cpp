#include "generators/local_attention.h"

namespace moa {

using namespace Halide;

// Knobs: rows x tile_keys, the register tile of scores; rows x tile_channels, that of the outputs; keys of a block; slots,
// the most that a window may have for its turned keys and its values to be made once a window (0: anew for every block of
// every tile, for windows of any size); widest, the widest head of a row for any width (without it, any).
void schedule_local_attention_cpu(LocalAttention &a, const Target &target, const Values &knobs) {
    const int vector = target.natural_vector_size<float>();
    const int rows = knobs("rows"), block = knobs("keys"), tile_keys = knobs("tile_keys"), tile_channels = knobs("tile_channels");
    const int head_dim = knobs.get("head_dim", 0), bound = head_dim == 0 ? knobs.get("widest", 0) : head_dim, slots = knobs.get("slots", 0);
    const bool pairs = knobs.get("pair", 1) == 2, plain = knobs.get("plain", 0) != 0;
    const TailStrategy tail = head_dim == 0 ? TailStrategy::GuardWithIf : TailStrategy::Auto;
    Var task("task"), window("window"), group("group"), part("part");

    // Windows are split by 1 for the reason of attention's heads (schedules/attention_cpu.cpp).
    Stage out = a.out.update();
    out.split(a.u, window, a.u, 1).reorder(a.d, a.rows.x, a.rows.y, a.u, window, a.h, a.b).fuse(window, a.h, task).fuse(task, a.b, task).parallel(task).vectorize(a.d, vector, tail);
    a.state.compute_at(a.out, a.rows.y).store_in(MemoryType::Stack).bound_extent(a.i, rows).vectorize(a.i, vector);
    if (head_dim == 0 && bound != 0) {
        a.state.bound_storage(a.c, bound + LocalAttention::kOutput);
    } else if (head_dim != 0) {
        a.state.bound_extent(a.c, head_dim + LocalAttention::kOutput);
    }
    Stage state = a.state.update();
    state.split(a.i, part, a.i, vector).reorder(a.i, a.steps.x, part, a.steps.y).vectorize(a.i);
    if (head_dim != 0) {
        state.unroll(a.steps.x);  // the selects fold
    }
    a.turned.compute_at(a.out, a.rows.y).store_in(MemoryType::Stack).bound_extent(a.i, rows).vectorize(a.d, vector, tail);
    a.shown.compute_at(a.out, task).store_in(MemoryType::Stack);
    for (Func f : {a.first_row, a.row_count}) {
        f.compute_at(a.state, a.steps.y).store_in(MemoryType::Stack).bound_extent(a.key, block).vectorize(a.key, vector);
    }
    a.queries.compute_at(a.out, a.rows.y).store_in(MemoryType::Stack).bound_extent(a.i, rows);
    a.mean.compute_at(a.out, task).store_in(MemoryType::Stack).vectorize(a.d, vector, tail);
    if (bound != 0) {
        a.turned.bound_storage(a.d, bound);
        a.mean.bound_storage(a.d, bound);
        a.largest_of_channel.bound_storage(a.d, bound);
        a.not_finite.bound_storage(a.d, bound);
    }
    a.mean.update().reorder(a.d, a.mean_slots).vectorize(a.d, vector, tail);
    for (Func f : {a.any_shown, a.largest_value}) {
        f.compute_at(a.out, task).store_in(MemoryType::Stack);
    }
    a.largest_of_channel.compute_at(a.largest_value, a.u).store_in(MemoryType::Stack).vectorize(a.d, vector, tail);
    a.largest_of_channel.update().reorder(a.d, a.value_slots).vectorize(a.d, vector, tail);
    // Of one row at a time: hardly any needs them.
    for (Func f : {a.all_hidden, a.seen}) {
        f.compute_at(a.out, a.rows.x).store_in(MemoryType::Stack);
    }
    a.not_finite.compute_at(a.out, a.rows.x).store_in(MemoryType::Stack).vectorize(a.d, vector, tail);
    a.not_finite.update().reorder(a.d, a.bad_slots).vectorize(a.d, vector, tail);
    const int padded = (bound + tile_channels - 1) / tile_channels * tile_channels;
    for (Func f : {a.keys, a.values}) {
        const bool in_pairs = pairs && f.name() == a.values.name();
        const int kept = slots != 0 ? slots : block;
        if (slots != 0) {
            f.compute_at(a.out, task);
        } else {
            f.compute_at(a.state, a.steps.y);
        }
        f.store_in(MemoryType::Stack).bound_storage(a.s, in_pairs ? kept / 2 + 1 : kept).vectorize(a.d, vector, tail);
        if (padded != 0) {
            f.bound_storage(a.d, padded);
        }
        if (in_pairs) {
            f.bound_extent(a.l, 2).reorder(a.l, a.d, a.s).unroll(a.l);
        }
    }
    if (head_dim != 0) {
        // Unrolled, a vector lies in one half of the head, and the choice between the halves folds.
        a.turned.unroll(a.d);
        if (!pairs) {
            a.keys.unroll(a.d);
        }
    }
    if (!plain) {
        a.query_squares.compute_at(a.out, a.rows.y).store_in(MemoryType::Stack).bound_extent(a.i, rows);
        a.key_squares.compute_at(a.keys, a.s);
    }

    for (Func f : {a.score, a.block_maximum, a.weight, a.block_sum, a.mixed}) {
        f.compute_at(a.state, a.steps.y).store_in(MemoryType::Stack).bound_extent(a.i, rows);
    }
    a.score.bound_extent(a.key, block).split(a.key, group, a.key, tile_keys).reorder(a.i, a.key, group).vectorize(a.i, vector).unroll(a.i).unroll(a.key);
    a.product.compute_at(a.score, group).bound_extent(a.i, rows).vectorize(a.i, vector).unroll(a.i).unroll(a.key);
    a.block_maximum.vectorize(a.i, vector).unroll(a.i).update().reorder(a.i, a.maximum_keys).vectorize(a.i, vector).unroll(a.i).unroll(a.maximum_keys, 4);
    a.block_sum.vectorize(a.i, vector).unroll(a.i);
    if (padded != 0) {
        a.mixed.bound_storage(a.d, padded);
    }
    a.mixed.split(a.d, group, a.d, tile_channels, TailStrategy::RoundUp)
        .reorder(a.i, a.d, group)
        .vectorize(a.i, vector)
        .unroll(a.i)
        .unroll(a.d);
    a.mix.compute_at(a.mixed, group).bound_extent(a.i, rows).vectorize(a.i, vector).unroll(a.i).unroll(a.d);
    if (pairs) {
        a.queries.bound_extent(a.l, 2).bound_extent(a.d, head_dim / 2).reorder(a.l, a.i, a.d).vectorize(a.l).unroll(a.i, 4);
        a.product.update().reorder(a.channels.x, a.i, a.key, a.channels.y).atomic().vectorize(a.channels.x).vectorize(a.i, vector).unroll(a.i).unroll(a.key).unroll(a.channels.y, 2);
        a.weight.bound_extent(a.l, 2).bound_extent(a.k2, block / 2).reorder(a.l, a.i, a.k2).vectorize(a.i, vector).unroll(a.l).unroll(a.i);
        a.ones.compute_root().bound_extent(a.l, 2);
        a.block_sum.update().reorder(a.sum_keys.x, a.i, a.sum_keys.y).atomic().vectorize(a.sum_keys.x).vectorize(a.i, vector).unroll(a.i).unroll(a.sum_keys.y, 4);
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
}

MOA_SCHEDULE(LocalAttention, cpu, schedule_local_attention_cpu);

}  // namespace moa
