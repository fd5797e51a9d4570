#include "generators/attention_tensor_core.h"
#include "generators/tensor_core/fragment.h"

namespace moa {

using namespace Halide;
using namespace moa::tensor_core;

namespace {

void schedule_out(AttentionTensorCore &a, const Var &eb) {
    Var row("row"), mt("tile"), half("half_row"), g("g"), slot("column"), t("t"), pair("pair"), lane("l"), warp("w");
    const bool wide = a.input == Input::tf32;
    a.out.bound(a.d, 0, a.head_dim)
        .split(a.i, a.query_tile, row, a.rows_of_block(), TailStrategy::GuardWithIf)
        .split(row, warp, row, a.rows_of_warp())
        .split(row, mt, row, kTileRows)
        .split(row, half, g, 8)
        .split(a.d, slot, t, wide ? kColumnsOfGroup : kTileColumns)
        .split(t, t, pair, wide ? kNeighbours : 2)
        .fuse(t, g, lane)
        .fuse(a.e, a.b, eb)
        .reorder(pair, half, slot, mt, lane, warp, a.query_tile, a.h, eb)
        .vectorize(pair)
        .unroll(half)
        .unroll(slot)
        .unroll(mt)
        .gpu_blocks(a.query_tile, a.h, eb)
        .gpu_threads(lane, warp);
}

void schedule_fragments(AttentionTensorCore &a) {
    const Var &lane = a.lane, &warp = a.warp, &mt = a.mt, &nt = a.nt, &key_tile = a.key_tile, &query_tile = a.query_tile, &h = a.h, &e = a.e, &b = a.b;
    const RVar key_tiles = a.steps.z;
    // For the whole loop over keys, or for one tile of them.
    std::vector<Func> fragments = {a.sums, a.inverse, a.null_part, a.null_score, a.score, a.top, a.valid};
    if (!a.queries_shared) {
        a.q_words.compute_at(a.out, query_tile);
        fragments.push_back(a.q_words);
    }
    for (Func f : {a.sums, a.inverse, a.null_part, a.null_score}) {
        f.compute_at(a.out, query_tile);
    }
    for (Func f : {a.score, a.top, a.valid}) {
        f.compute_at(a.sums, key_tiles);
    }
    for (Func f : fragments) {
        f.store_in(MemoryType::Register).bound_extent(lane, kLanes).bound_extent(warp, a.warps);
        for (const Var &v : f.args()) {
            if (v.name() == mt.name()) {
                f.bound_extent(mt, a.tiles);
            }
        }
    }
    if (!a.queries_shared) {
        a.q_words.reorder_storage(lane, warp, a.part, a.product, mt, query_tile, h, e, b)
            .bound_extent(a.part, 4)
            .bound_extent(a.product, a.products())
            .reorder(a.part, a.product, mt, query_tile, h, e, b, lane, warp)
            .unroll(a.part)
            .unroll(a.product)
            .unroll(mt)
            .gpu_threads(lane, warp);
    }
    a.valid.reorder(key_tile, e, b, lane, warp).gpu_threads(lane, warp);
    a.score.reorder_storage(lane, warp, nt, mt, key_tile, query_tile, h, e, b)
        .bound_extent(nt, a.keys / kTileColumns)
        .reorder(nt, mt, key_tile, query_tile, h, e, b, lane, warp)
        .unroll(nt)
        .unroll(mt)
        .gpu_threads(lane, warp);
    a.score.update()
        .reorder(a.score_steps.x, nt, mt, a.score_steps.y, key_tile, query_tile, h, e, b, lane, warp)
        .unroll(a.score_steps.x)
        .unroll(a.score_steps.y)
        .unroll(nt)
        .unroll(mt)
        .gpu_threads(lane, warp);
    a.score.update(1).reorder(nt, mt, a.hide.x, key_tile, query_tile, h, e, b, lane, warp).unroll(nt).unroll(mt).gpu_threads(lane, warp);
    a.top.reorder_storage(lane, warp, mt, key_tile, query_tile, h, e, b).reorder(mt, key_tile, query_tile, h, e, b, lane, warp).unroll(mt).gpu_threads(lane, warp);
    a.null_part.reorder_storage(lane, warp, a.half, mt, query_tile, h, e, b)
        .bound_extent(a.half, 2)
        .reorder(a.half, mt, query_tile, h, e, b, lane, warp)
        .unroll(a.half)
        .unroll(mt)
        .gpu_threads(lane, warp)
        .update()
        .reorder(a.half, mt, a.null_channels, query_tile, h, e, b, lane, warp)
        .unroll(a.half)
        .unroll(mt)
        .gpu_threads(lane, warp);
    for (Func f : {a.null_score, a.inverse}) {
        f.reorder_storage(lane, warp, mt, query_tile, h, e, b).reorder(mt, query_tile, h, e, b, lane, warp).unroll(mt).gpu_threads(lane, warp);
    }
    a.sums.reorder_storage(lane, warp, a.slot, mt, query_tile, h, e, b)
        .bound_extent(a.slot, a.head_dim / kTileColumns + 1)
        .reorder(a.slot, mt, query_tile, h, e, b, lane, warp)
        .unroll(a.slot)
        .unroll(mt)
        .gpu_threads(lane, warp)
        .update()
        .reorder(a.steps.x, a.steps.y, mt, query_tile, h, e, b, lane, warp, key_tiles)
        .unroll(a.steps.x)
        .unroll(a.steps.y)
        .unroll(mt)
        .gpu_threads(lane, warp);
}

// Copies of 16 bytes by all threads of the block.
void schedule_copies(AttentionTensorCore &a, Func &tile, int rows) {
    Var task("task"), round("round"), li("li"), wi("wi");
    tile.store_in(MemoryType::GPUShared)
        .bound(a.element, 0, kCopyBytes / a.q.type().bytes())
        .bound_extent(a.y, rows)
        .bound(a.place, 0, a.chunks())
        .vectorize(a.element)
        .fuse(a.place, a.y, task)
        .split(task, task, li, kLanes)
        .split(task, round, wi, a.warps)
        .reorder(a.element, round, li, wi)
        .unroll(round)
        .gpu_threads(li, wi);
}

}  // namespace

// Knobs: a block's warps * tiles * 16 queries; keys of a tile; stages: tiles in shared memory, of which all but one are on
// their way. On one H100, bf16, 16384 queries and keys of 16 heads: 336 TFLOP/s for head_dim 64 with 4 x 2 x 16 queries, 64
// keys and 3 stages, 371 for 128 with as many, 2 stages and shared queries (not masked); FlashAttention-2 has 309 and 368.
void schedule_attention_tensor_core_cuda(AttentionTensorCore &a, const Target &target, const Values &knobs) {
    const int elements = kCopyBytes / a.q.type().bytes();
    Var eb("eb");
    schedule_out(a, eb);
    schedule_fragments(a);

    // Stored outside the loop over keys, computed inside: a sliding window, hence a ring buffer.
    for (Func *tile : {&a.k_tile, &a.v_tile}) {
        tile->store_at(a.out, a.query_tile).compute_at(a.sums, a.steps.z).fold_storage(a.key_tile, a.stages);
        schedule_copies(a, *tile, a.keys);
    }
    if (a.queries_shared) {
        a.q_tile.compute_at(a.out, a.query_tile);
        schedule_copies(a, a.q_tile, a.rows_of_block());
    }
    for (Func f : {a.q_tile, a.q_words, a.k_tile, a.v_tile, a.valid, a.score, a.top, a.null_part, a.null_score, a.sums, a.inverse}) {
        for (const Var &own : f.args()) {
            for (const Var &one : {a.query_tile, a.h, a.e, a.b}) {
                if (own.name() == one.name()) {
                    f.bound_extent(one, 1);
                }
            }
        }
    }
    for (ImageParam *p : {&a.q, &a.k, &a.v}) {
        p->dim(0).set_bounds(0, a.head_dim).set_stride(1);
        for (int i = 1; i < 5; i++) {
            p->dim(i).set_min(0).set_stride(p->dim(i).stride() / elements * elements);
        }
        p->set_host_alignment(kCopyBytes);
    }
    OutputImageParam out = a.out.output_buffer();
    out.dim(0).set_bounds(0, a.head_dim).set_stride(1);
    for (int i = 1; i < 5; i++) {
        out.dim(i).set_stride(out.dim(i).stride() / elements * elements);
    }
    out.set_host_alignment(kCopyBytes);
}

MOA_SCHEDULE(AttentionTensorCore, cuda, schedule_attention_tensor_core_cuda);

}  // namespace moa
