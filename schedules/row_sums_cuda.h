#pragma once

#include "generators/row_sums.h"
#include "schedules/cuda.h"

namespace moa::cuda {

// Sums of a block's rows: `warps` x `rows` of them, a register tile of `rows` a warp.
inline void schedule_row_sums(RowSums &s, const Halide::LoopLevel &per_block, const Halide::Expr &aligned, int warps, int rows) {
    using namespace Halide;
    const int sums = RowSums::kStatistics;
    Var row("row"), warp("warp"), rest("rest");
    RVar group("group");
    // A pitch of 33 words keeps both the writing lanes and the summing threads apart.
    s.partial.compute_at(per_block)
        .store_in(MemoryType::GPUShared)
        .bound_extent(s.a, sums)
        .bound_extent(s.l, kWarp)
        .bound_extent(s.n, warps * rows)
        .align_storage(s.l, kWarp + 1)
        .split(s.n, warp, row, rows)
        .reorder(row, s.a, s.l, warp, s.b)
        .unroll(row)
        .unroll(s.a)
        .gpu_threads(s.l, warp);
    s.raw.compute_at(s.partial, s.l).bound_extent(s.a, sums).bound_extent(s.n, rows).unroll(s.a).unroll(s.n);
    // The two differ in their order as well: where only what is known of addresses differs, Halide makes one of them.
    Stage vectors = s.raw.update(0).specialize(aligned), elements = s.raw.update(0);
    vectors.reorder(s.a, s.n, s.groups.x, s.groups.y, s.groups.z);
    elements.reorder(s.n, s.a, s.groups.x, s.groups.y, s.groups.z);
    for (Stage stage : {vectors, elements}) {
        stage.unroll(s.a).unroll(s.n).unroll(s.groups.x).unroll(s.groups.y);
    }
    s.raw.update(1).reorder(s.a, s.n, s.rest.x, s.rest.y).unroll(s.a).unroll(s.n);
    s.raw.update(2).reorder(s.a, s.n, s.tail).unroll(s.a).unroll(s.n);
    s.pivot.compute_at(s.partial, s.l).bound_extent(s.n, rows).unroll(s.n);
    s.values.compute_at(s.raw, s.groups.z).bound_extent(s.v, RowSums::kGroup).bound_extent(s.p, RowSums::kTogether).bound_extent(s.j, 1).vectorize(s.v).unroll(s.p);
    s.values.bound_extent(s.n, rows).unroll(s.n);
    s.one_by_count.compute_at(per_block).bound_extent(s.l, kWarp).gpu_threads(s.l);
}

}  // namespace moa::cuda
