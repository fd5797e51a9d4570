#include "generators/select_tokens_gpu.h"
#include "schedules/cuda.h"

namespace moa {

using namespace Halide;

namespace {

constexpr int kWarps = 32;

// A loop over `var` by all threads of a block, in rounds.
template<class Variable>
Stage by_threads(Stage stage, const Variable &var, int extent = 0) {
    Variable round(var.name() + "_round"), warp(var.name() + "_warp"), lane(var.name() + "_lane");
    if (extent > 0 && extent <= cuda::kWarp * kWarps) {
        return stage.split(var, warp, lane, cuda::kWarp, TailStrategy::GuardWithIf).gpu_threads(lane, warp);
    }
    return stage.split(var, round, warp, cuda::kWarp * kWarps, TailStrategy::GuardWithIf)
        .split(warp, warp, lane, cuda::kWarp)
        .gpu_threads(lane, warp);
}

}  // namespace

// Knobs: shared = 1 keeps bits and places in shared memory: 32 bytes for each 32 positions, up to 32768 of these; else they are
// in device memory, as what rank order sorts is.
void schedule_select_tokens_gpu_cuda(SelectTokensGpu &op, const Target &, const Values &knobs) {
    constexpr int kWord = SelectTokensGpu::kWord, kChunks = SelectTokensGpu::kChunks, kSection = SelectTokensGpu::kSection;
    const MemoryType memory = knobs.get("shared", 0) != 0 ? MemoryType::GPUShared : MemoryType::Heap;
    Var block("block"), round("round"), warp("warp");
    cuda::begin_at_zero(op.scores, op.mask, op.indices.output_buffer());

    const auto by_positions = [&](Stage stage) {
        RVar words("words"), word("word");
        stage.allow_race_conditions().split(op.positions.y, words, word, kWarps, TailStrategy::GuardWithIf).gpu_threads(op.positions.x, word);
    };
    if (op.rank) {
        op.indices.fuse(op.r, op.b, block).gpu_blocks(block);
        by_threads(op.indices, op.j);
        op.sorted.compute_at(op.indices, block).store_in(MemoryType::Heap).bound_extent(op.s, 2).reorder(op.s, op.j);
        by_threads(op.sorted, op.j);
        by_positions(op.sorted.update(0));
        Stage exchange = op.sorted.update(1);
        RVar items("items"), thread("thread"), threads("threads");
        exchange.allow_race_conditions()
            .split(op.exchanges.x, items, threads, cuda::kWarp * kWarps, TailStrategy::GuardWithIf)
            .split(threads, threads, thread, cuda::kWarp)
            .reorder(thread, threads, items, op.exchanges.y)
            .gpu_threads(thread, threads);
        // Made in the loop, so that all threads wait between steps.
        op.step.compute_at(op.sorted, op.exchanges.y);
    } else {
        op.indices.fuse(op.r, op.b, block).gpu_blocks(block);  // nothing, but not the host's
        Stage places = op.indices.update();
        places.fuse(op.r, op.b, block);
        by_positions(places);
        places.gpu_blocks(block);
    }

    const auto at_block = [&](Func f) -> Func { return f.compute_at(op.indices, block); };
    // Masked and ordered once; five loops read them.
    at_block(op.keys).store_in(MemoryType::Heap);
    // A block's arrays in device memory follow each other, of 8 bytes (what is ranked) and of 4. Halide puts each of them at a
    // multiple of 8, but adds their sizes up as if it did not: with odd ones, blocks would share their last key.
    op.keys.align_storage(op.n, 2);
    op.bits.align_storage(op.w, 2);
    {
        Var warps("warps"), lane("lane"), item("item");
        op.keys.split(op.n, round, item, cuda::kWarp * kWarps * SelectTokensGpu::kUnrolled, TailStrategy::GuardWithIf)
            .split(item, item, warps, cuda::kWarp * kWarps)
            .split(warps, warps, lane, cuda::kWarp)
            .reorder(item, lane, warps, round)
            .unroll(item)
            .gpu_threads(lane, warps);
    }
    // Sums are made in a register and shown once: a barrier each.
    const auto shown = [&](const Func &f, Func sum, const Var &var, int extent) {
        Var warps("warps"), lane("lane");
        at_block(f).bound(var, 0, extent).split(var, warps, lane, cuda::kWarp, TailStrategy::GuardWithIf).gpu_threads(lane, warps);
        sum.compute_at(f, lane);
    };
    for (auto &level : op.levels) {
        const int bins = 1 << level.bits, groups = bins / kWord;
        at_block(level.histogram).bound(op.x, 0, bins);
        by_threads(level.histogram, op.x);
        RVar warps("warps"), lane("lane");
        level.histogram.update()
            .atomic()
            .split(level.items.x, warps, lane, cuda::kWarp)
            .reorder(level.items.y, lane, warps, level.items.z)
            .unroll(level.items.y)
            .gpu_threads(lane, warps);
        for (Func f : {level.taken, level.digit}) {
            f.compute_at(level.histogram, lane).bound_extent(op.t, 1).bound_extent(op.w, 1).bound_extent(op.x, SelectTokensGpu::kUnrolled).unroll(op.x);
        }
        shown(level.groups, level.group_sum, op.s, groups);
        level.group_sum.update().unroll(level.group_bins);
        shown(level.above, level.above_sum, op.s, groups);
        at_block(level.group);
        by_threads(level.group.update().allow_race_conditions(), RVar(level.group_choice), groups);
        shown(level.bin_above, level.bin_above_sum, op.x, kWord);
        at_block(level.found);
        by_threads(level.found.update().allow_race_conditions(), RVar(level.bin_choice), kWord);
    }

    at_block(op.bits).store_in(memory).update().allow_race_conditions().split(op.w, round, warp, kWarps, TailStrategy::GuardWithIf).reorder(op.lanes, warp, round).gpu_threads(op.lanes, warp);
    shown(op.counts, op.count_sum, op.t, kChunks);
    shown(op.sections, op.section_sum, op.s, kSection);
    shown(op.section_base, op.section_base_sum, op.s, kSection);
    at_block(op.base).store_in(memory).bound(op.t, 0, kChunks);
    by_threads(op.base, op.t, kChunks);
    by_threads(op.base.update(), op.t, kChunks);
    at_block(op.chunk_base).bound(op.t, 0, kChunks);
    by_threads(op.chunk_base, op.t, kChunks);
    by_threads(op.chunk_base.update(), op.t, kChunks);
}

MOA_SCHEDULE(SelectTokensGpu, cuda, schedule_select_tokens_gpu_cuda);

}  // namespace moa
