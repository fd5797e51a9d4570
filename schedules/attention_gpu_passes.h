#pragma once

#include "generators/codegen/kernel.h"
#include "schedules/cuda.h"

#include <algorithm>

namespace moa::cuda {

// What the schedules of the two-pass algorithms share (generators/{attention,local_attention}_gpu.h).
//
// Knobs: rows of a block of threads and keys of a step; row_tile x key_tile of scores, and row_tile x 4 channels of sums, are a
// thread's. Queries, a step's keys and its weights, and the sums are in shared memory; values are read where they lie,
// neighbouring channels by neighbouring threads.
struct AttentionPasses {
    int rows, keys, key_tile, row_tile, head_dim;
    int row_threads, other_threads, groups;
    Halide::Var lane{"lane"}, group{"group"}, round{"round"}, row{"row"}, row_thread{"row_thread"}, other{"other"};

    explicit AttentionPasses(const Values &knobs)
        : rows(knobs("rows")), keys(knobs("keys")), key_tile(knobs("key_tile")), row_tile(knobs("row_tile")), head_dim(knobs.get("head_dim", 0)),
          row_threads(rows / row_tile), other_threads(kWarp / row_threads), groups(keys / key_tile / other_threads) {
    }

    // A thread a row.
    void by_rows(Halide::Func f, const Halide::LoopLevel &at, const Halide::Var &i) const {
        f.compute_at(at).bound_extent(i, rows).split(i, round, lane, kWarp, Halide::TailStrategy::GuardWithIf).gpu_threads(lane);
        f.update().split(i, round, lane, kWarp, Halide::TailStrategy::GuardWithIf).gpu_threads(lane);
    }

    // Copies: lanes along the channels, as they lie in memory.
    void copied(Halide::Func f, const Halide::Var &d, const Halide::Var &position, int positions) const {
        if (head_dim != 0) {
            f.bound_extent(d, head_dim);
        }
        f.align_storage(position, positions + kVector)
            .split(d, round, lane, kWarp, Halide::TailStrategy::GuardWithIf)
            .split(position, row, group, groups)
            .reorder(row, lane, group, round)
            .unroll(row, std::min(8, positions / groups))
            .gpu_threads(lane, group);
    }

    // Threads of a block of rows x (keys or channels): a warp has row_threads of the first kind.
    void by_tiles(Halide::Stage stage, const Halide::Var &of_rows, const Halide::Var &thread_of_rows, const Halide::Var &others) const {
        stage.split(of_rows, row_thread, thread_of_rows, row_tile)
            .split(others, other, others, other_threads, Halide::TailStrategy::GuardWithIf)
            .split(other, round, other, groups, Halide::TailStrategy::GuardWithIf)
            .fuse(row_thread, others, lane)
            .gpu_threads(lane, other);
    }

    template<class Attention>
    void in_registers(Attention &a, typename Attention::Pass &pass, const Halide::LoopLevel &thread) const {
        const int channels = head_dim == 0 ? 1 : head_dim;
        pass.product.compute_at(thread).bound_extent(a.i, row_tile).bound_extent(a.key, key_tile).vectorize(a.i, kVector).unroll(a.i).unroll(a.key);
        pass.product.update().reorder(a.i, a.key, pass.channels).vectorize(a.i, kVector).unroll(a.i).unroll(a.key).unroll(pass.channels, channels % 4 == 0 ? 4 : 1);
        Halide::Func tile = pass.keys.in(pass.product);
        tile.compute_at(pass.product, pass.channels).bound_extent(a.key, key_tile).vectorize(a.key, std::min(kVector, key_tile)).unroll(a.key).unroll(a.d);
    }

    // What is computed anew for an element of the output, by the thread that writes it.
    template<class Attention>
    void rare(Attention &a, const Halide::Func &out) const {
        const Halide::LoopLevel element(out, lane);
        a.seen.compute_at(element).update().never_partition_all();
        a.again_mix.compute_at(element).update().never_partition_all();
        a.again_product.compute_at(a.again_mix, a.again_keys.x);
    }

    // Queries, and both passes over the keys. `member` is a group's channel; before_keys(pass, step) schedules what keys want.
    template<class Attention, class BeforeKeys>
    void schedule(Attention &a, const Halide::LoopLevel &at, Halide::Var member, BeforeKeys before_keys) const {
        using Halide::LoopLevel;
        constexpr int kMembers = Attention::kChannels + 1;
        a.queries.compute_at(at).bound_extent(a.i, rows);
        copied(a.queries, a.d, a.i, rows);

        a.largest.compute_at(at).bound_extent(a.i, rows).bound_extent(a.s, keys / key_tile);
        by_tiles(a.largest, a.i, row, a.s);
        a.largest.reorder(row, lane, other, round).unroll(row);
        by_tiles(a.largest.update(), a.i, row, a.s);
        a.largest.update().reorder(row, a.slot_keys.x, lane, other, round, a.slot_keys.y).unroll(row).unroll(a.slot_keys.x);
        before_keys(a.first, LoopLevel(a.largest, a.slot_keys.y));
        a.first.keys.compute_at(a.largest, a.slot_keys.y).bound_extent(a.key, keys);
        copied(a.first.keys, a.d, a.key, keys);
        in_registers(a, a.first, LoopLevel(a.largest, lane));

        a.sums.compute_at(at).bound_extent(member, kMembers).bound_extent(a.i, rows);
        by_tiles(a.sums, a.i, row, a.g);
        a.sums.reorder(member, row, lane, other, round).unroll(member).unroll(row);
        by_tiles(a.sums.update(), a.i, row, a.g);
        a.sums.update().reorder(member, row, lane, other, round, a.blocks).unroll(member).unroll(row);
        before_keys(a.second, LoopLevel(a.sums, a.blocks));
        a.second.keys.compute_at(a.sums, a.blocks).bound_extent(a.key, keys);
        copied(a.second.keys, a.d, a.key, keys);
        Halide::Var key_in("key_in");
        a.weight.compute_at(a.sums, a.blocks).bound_extent(a.i, rows).bound_extent(a.key, keys).split(a.key, a.key, key_in, key_tile);
        by_tiles(a.weight, a.i, row, a.key);
        a.weight.reorder(row, key_in, lane, other, round).unroll(row).unroll(key_in);
        in_registers(a, a.second, LoopLevel(a.weight, lane));
        a.mix.compute_at(a.sums, lane).bound_extent(member, kMembers).bound_extent(a.g, 1).bound_extent(a.i, row_tile).unroll(member).unroll(a.i);
        a.mix.update().reorder(member, a.i, a.mix_keys).unroll(member).unroll(a.i).unroll(a.mix_keys, 4);
        a.weight.in(a.mix).compute_at(a.mix, a.mix_keys).bound_extent(a.i, row_tile).vectorize(a.i, kVector).unroll(a.i).unroll(a.key);
        for (Halide::Func f : {a.first.keys, a.second.keys, a.weight}) {
            f.bound_extent(a.j, 1);
        }
    }
};

}  // namespace moa::cuda
