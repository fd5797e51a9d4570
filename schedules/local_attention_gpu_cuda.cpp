#include "generators/local_attention_gpu.h"
#include "schedules/cuda.h"

#include <algorithm>

namespace moa {

using namespace Halide;

// Knobs: rows of a block of threads and keys of a step; row_tile x key_tile of scores, and row_tile x 4 channels of sums, are a
// thread's. Queries, a step's keys and its weights, and the sums are in shared memory; values
// are read where they lie, neighbouring channels by neighbouring threads.
void schedule_local_attention_gpu_cuda(LocalAttentionGpu &a, const Target &target, const Values &knobs) {
    constexpr int kChannels = LocalAttentionGpu::kChannels;
    const int rows = knobs("rows"), keys = knobs("keys"), key_tile = knobs("key_tile"), row_tile = knobs("row_tile");
    const int row_threads = rows / row_tile, other_threads = cuda::kWarp / row_threads, groups = keys / key_tile / other_threads;
    const bool plain = knobs.get("plain", 0) != 0;
    const int head_dim = knobs.get("head_dim", 0), channels = head_dim == 0 ? 1 : head_dim;
    Var task("task"), lane("lane"), group("group"), round("round"), row("row"), row_thread("row_thread"), other("other");
    cuda::begin_at_zero(a.q, a.k, a.v, a.mask, a.q_cos, a.q_sin, a.k_cos, a.k_sin, a.q_gain, a.k_gain, a.bias, a.gate, a.out.output_buffer());

    if (head_dim != 0) {
        a.out.bound(a.d, 0, head_dim);
    }
    RVar row_of_out("row_of_out"), group_of_out("group_of_out");
    a.out.fuse(a.h, a.b, task).gpu_blocks(task);  // nothing, but not the host's
    Stage out = a.out.update();
    // Axes are split by 1: of loops that fusing recovers with a remainder of a remainder, Halide knows the value only if they
    // are, and a block would compute all windows.
    Var in_turn("in_turn"), head("head"), batch("batch");
    out.allow_race_conditions()
        .split(a.d, round, lane, cuda::kWarp, TailStrategy::GuardWithIf)
        .split(a.rows.x, row_of_out, group_of_out, groups)
        .split(a.u, in_turn, a.u, 1)
        .split(a.h, head, a.h, 1)
        .split(a.b, batch, a.b, 1)
        .reorder(lane, group_of_out, round, row_of_out, a.u, a.h, a.b, in_turn, head, batch, a.rows.y)
        .fuse(in_turn, head, task)
        .fuse(task, batch, task)
        .gpu_blocks(task, a.rows.y)
        .gpu_threads(lane, group_of_out);
    const LoopLevel at(a.out, task);
    const auto by_rows = [&](Func f) {
        f.compute_at(at).bound_extent(a.i, rows).split(a.i, round, lane, cuda::kWarp, TailStrategy::GuardWithIf).gpu_threads(lane);
        f.update().split(a.i, round, lane, cuda::kWarp, TailStrategy::GuardWithIf).gpu_threads(lane);
    };
    by_rows(a.maximum);
    if (!plain) {
        by_rows(a.query_squares);
    }
    a.mean.compute_at(at).split(a.d, round, lane, cuda::kWarp, TailStrategy::GuardWithIf).gpu_threads(lane);
    a.mean.update().split(a.d, round, lane, cuda::kWarp, TailStrategy::GuardWithIf).gpu_threads(lane);
    // Copies: lanes along the channels, as they lie in memory.
    const auto copied = [&](Func f, const Var &position, int positions) {
        if (head_dim != 0) {
            f.bound_extent(a.d, head_dim);
        }
        f.align_storage(position, positions + cuda::kVector)
            .split(a.d, round, lane, cuda::kWarp, TailStrategy::GuardWithIf)
            .split(position, row, group, groups)
            .reorder(row, lane, group, round)
            .unroll(row, std::min(8, positions / groups))
            .gpu_threads(lane, group);
    };
    a.queries.compute_at(at).bound_extent(a.i, rows);
    copied(a.queries, a.i, rows);

    // Threads of a block of rows x (keys or channels): a warp has row_threads of the first kind.
    const auto by_tiles = [&](Stage stage, const Var &of_rows, const Var &thread_of_rows, const Var &others) {
        stage.split(of_rows, row_thread, thread_of_rows, row_tile)
            .split(others, other, others, other_threads, TailStrategy::GuardWithIf)
            .split(other, round, other, groups, TailStrategy::GuardWithIf)
            .fuse(row_thread, others, lane)
            .gpu_threads(lane, other);
    };
    const auto in_registers = [&](LocalAttentionGpu::Pass &pass, const LoopLevel &thread) {
        pass.product.compute_at(thread).bound_extent(a.i, row_tile).bound_extent(a.key, key_tile).vectorize(a.i, cuda::kVector).unroll(a.i).unroll(a.key);
        pass.product.update().reorder(a.i, a.key, pass.channels).vectorize(a.i, cuda::kVector).unroll(a.i).unroll(a.key).unroll(pass.channels, channels % 4 == 0 ? 4 : 1);
        Func tile = pass.keys.in(pass.product);
        tile.compute_at(pass.product, pass.channels).bound_extent(a.key, key_tile).vectorize(a.key, cuda::kVector).unroll(a.key).unroll(a.d);
    };

    const auto squares = [&](LocalAttentionGpu::Pass &pass, const LoopLevel &step) {
        if (!plain) {
            pass.squares.compute_at(step).bound_extent(a.key, keys).split(a.key, group, lane, cuda::kWarp, TailStrategy::GuardWithIf).gpu_threads(lane);
            pass.squares.update().split(a.key, group, lane, cuda::kWarp, TailStrategy::GuardWithIf).gpu_threads(lane);
        }
    };
    a.largest.compute_at(at).bound_extent(a.i, rows).bound_extent(a.s, keys / key_tile);
    by_tiles(a.largest, a.i, row, a.s);
    a.largest.reorder(row, lane, other, round).unroll(row);
    by_tiles(a.largest.update(), a.i, row, a.s);
    a.largest.update().reorder(row, a.slot_keys.x, lane, other, round, a.slot_keys.y).unroll(row).unroll(a.slot_keys.x);
    squares(a.first, LoopLevel(a.largest, a.slot_keys.y));
    a.first.keys.compute_at(a.largest, a.slot_keys.y).bound_extent(a.key, keys);
    copied(a.first.keys, a.key, keys);
    in_registers(a.first, LoopLevel(a.largest, lane));

    Var u = a.c;
    a.sums.compute_at(at).bound_extent(a.c, kChannels + 1).bound_extent(a.i, rows);
    by_tiles(a.sums, a.i, row, a.g);
    a.sums.reorder(u, row, lane, other, round).unroll(u).unroll(row);
    by_tiles(a.sums.update(), a.i, row, a.g);
    a.sums.update().reorder(u, row, lane, other, round, a.blocks).unroll(u).unroll(row);
    squares(a.second, LoopLevel(a.sums, a.blocks));
    a.second.keys.compute_at(a.sums, a.blocks).bound_extent(a.key, keys);
    copied(a.second.keys, a.key, keys);
    Var key_in("key_in");
    a.weight.compute_at(a.sums, a.blocks).bound_extent(a.i, rows).bound_extent(a.key, keys).split(a.key, a.key, key_in, key_tile);
    by_tiles(a.weight, a.i, row, a.key);
    a.weight.reorder(row, key_in, lane, other, round).unroll(row).unroll(key_in);
    in_registers(a.second, LoopLevel(a.weight, lane));
    a.mix.compute_at(a.sums, lane).bound_extent(a.c, kChannels + 1).bound_extent(a.g, 1).bound_extent(a.i, row_tile).unroll(a.c).unroll(a.i);
    a.mix.update().reorder(a.c, a.i, a.mix_keys).unroll(a.c).unroll(a.i).unroll(a.mix_keys, 4);
    a.weight.in(a.mix).compute_at(a.mix, a.mix_keys).bound_extent(a.i, row_tile).vectorize(a.i, cuda::kVector).unroll(a.i).unroll(a.key);

    // A block has one tile of one window: without saying so, the host would look for the largest of all blocks' arrays.
    std::vector<Func> arrays = {a.maximum, a.queries, a.largest, a.sums, a.weight, a.first.keys, a.second.keys};
    if (!plain) {
        arrays.insert(arrays.end(), {a.query_squares, a.first.squares, a.second.squares});
    }
    for (Func f : arrays) {
        f.bound_extent(a.t, 1);
    }
    arrays.push_back(a.mean);
    for (Func f : arrays) {
        f.bound_extent(a.u, 1).bound_extent(a.h, 1).bound_extent(a.b, 1);
    }
    for (Func f : {a.first.keys, a.second.keys, a.weight}) {
        f.bound_extent(a.j, 1);
    }
}

MOA_SCHEDULE(LocalAttentionGpu, cuda, schedule_local_attention_gpu_cuda);

}  // namespace moa
