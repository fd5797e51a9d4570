#include "generators/select_tokens.h"

namespace moa {

using namespace Halide;

namespace {

struct RowLoop {
    Func indices;
    Var row;
    int vector;

    Func &at_row(Func &f) const {
        return f.compute_at(indices, row);
    }
    Func &in_registers(Func &f) const {
        return at_row(f).store_in(MemoryType::Stack);
    }
};

void schedule_threshold(SelectTokens &op, const RowLoop &loop) {
    const int halves = 2 * loop.vector;
    loop.at_row(op.keys).vectorize(op.n, loop.vector, TailStrategy::RoundUp).align_bounds(op.n, SelectTokens::kLanes);
    op.keys.specialize(op.mask.dim(0).stride() == 1);
    op.keys.specialize(op.mask.dim(0).stride() == 0);
    for (auto &level : op.levels) {
        loop.at_row(level.halves).vectorize(op.n, halves, TailStrategy::RoundUp).align_bounds(op.n, SelectTokens::kLanes);
        for (auto &bit : level.bits) {
            bit.parts.compute_at(bit.count, bit.lanes.y).store_in(MemoryType::Stack).vectorize(op.l, halves).unroll(op.l);
            bit.parts.update().reorder(op.l, bit.blocks).vectorize(op.l, halves).unroll(op.l);
            loop.in_registers(bit.count).update().atomic().vectorize(bit.lanes.x, SelectTokens::kLanes);
            loop.in_registers(bit.found);
        }
    }
    loop.in_registers(op.threshold);
    loop.in_registers(op.cutoff).update().unscheduled();
}

void schedule_compaction(SelectTokens &op, const RowLoop &loop) {
    op.marks.compute_at(op.taken, op.c).store_in(MemoryType::Stack).vectorize(op.l, SelectTokens::kGroup);
    loop.at_row(op.taken).vectorize(op.c, loop.vector).update().atomic().vectorize(op.group_lanes, SelectTokens::kGroup);
    loop.at_row(op.begin).vectorize(op.g, loop.vector).update().unroll(op.groups, SelectTokens::kGroupsOfChunk);
    // No race: a group's lanes go to slots of their own.
    loop.at_row(op.selected).update().allow_race_conditions().vectorize(op.moves.x).unroll(op.moves.y, SelectTokens::kGroupsOfChunk);
}

}  // namespace

// 8 rows of 4096 (32768) scores, k 512 (4096), on one core of a Zen 3 EPYC (AVX2), moa_ops_bench
// --benchmark_filter=select_tokens: 29 us (260 us) in ascending order, 73 us (611 us) by rank. Searching all bits of 32-bit keys
// and moving positions one by one took 2.9 times as long. The search takes half of the time, the keys with their halves and
// the compaction a quarter each. Ties at the threshold cost up to 2.3 times as much.
void schedule_select_tokens_cpu(SelectTokens &op, const Target &target, const Values &) {
    const RowLoop loop{op.indices, Var("row"), target.natural_vector_size<int>()};
    op.indices.fuse(op.r, op.b, loop.row).parallel(loop.row).vectorize(op.j, loop.vector, TailStrategy::GuardWithIf);
    schedule_threshold(op, loop);
    schedule_compaction(op, loop);
    for (auto &pass : op.passes) {
        loop.in_registers(pass.histogram).vectorize(op.x, loop.vector).update().unscheduled();
        loop.in_registers(pass.starts).vectorize(op.x, loop.vector).update().unscheduled();
        loop.at_row(pass.sorted).update(0).vectorize(pass.counters, loop.vector);
        pass.sorted.update(1).unroll(pass.moves.x);
    }
}

MOA_SCHEDULE(SelectTokens, cpu, schedule_select_tokens_cpu);

}  // namespace moa
