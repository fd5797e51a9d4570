#include "schedules/attention_tile_cuda.h"

namespace moa::tensor_core {

using namespace Halide;

namespace {

// Copies of 16 bytes by all threads of the block.
void schedule_copies(const AttentionTile &a, Func &tile, int rows) {
    Var task("task"), round("round"), li("li"), wi("wi");
    tile.store_in(MemoryType::GPUShared)
        .bound(a.element, 0, kWordsOfCopy * elements_of_word(a.input))
        .bound(a.y, 0, rows)
        .bound(a.place, 0, a.chunks())
        .vectorize(a.element)
        .fuse(a.place, a.y, task)
        .split(task, task, li, kLanes)
        .split(task, round, wi, a.warps)
        .reorder(a.element, round, li, wi)
        .unroll(round)
        .gpu_threads(li, wi);
}

void schedule_scores(AttentionTile &a) {
    store_by_threads(a, a.score, {a.nt, a.mt, a.key_tile});
    a.score.bound_extent(a.nt, a.keys / kTileColumns);
    by_threads(a, a.score, {a.nt, a.mt}, {a.key_tile});
    if (a.warpgroups) {
        store_by_threads(a, a.score_group, {a.key_tile});
        by_threads(a, a.score_group, {}, {a.key_tile});
    } else {
        a.score.update().unroll(a.score_steps.y);
        by_threads(a, a.score.update(), {a.score_steps.x, a.nt, a.mt}, {a.score_steps.y, a.key_tile});
    }
    for (size_t i = 0; i < a.hidings.size(); i++) {
        by_threads(a, a.score.update(static_cast<int>(i) + (a.warpgroups ? 0 : 1)), {a.nt, a.mt}, {a.hidings[i].x, a.key_tile});
    }
    store_by_threads(a, a.top, {a.mt, a.key_tile});
    by_threads(a, a.top, {a.mt}, {a.key_tile});
}

// What is computed again is a thread's own, and rolled up: its loops are long, and rarely begun.
void schedule_result(AttentionTile &a) {
    store_by_threads(a, a.wanted_again, {});
    by_threads(a, a.wanted_again, {});
    store_by_threads(a, a.result, {a.slot, a.mt});
    a.result.bound_extent(a.slot, a.outputs());
    by_threads(a, a.result, {a.slot, a.mt});
    by_threads(a, a.result.update(), {a.slot, a.mt}, {a.once.x});
    const LoopLevel thread(a.result, a.lane);
    a.mix_again.compute_at(thread).bound_extent(a.pair, 2).bound_extent(a.slot, a.outputs()).bound_extent(a.half, 2).bound_extent(a.mt, a.tiles);
    a.mix_again.update().reorder(a.pair, a.slot, a.again_keys[1].x, a.half, a.mt);
    a.score_again[1].compute_at(a.mix_again, a.again_keys[1].x);
    a.softmax_again.compute_at(thread).bound_extent(a.half, 2).bound_extent(a.mt, a.tiles);
    a.softmax_again.update().reorder(a.again_keys[0].x, a.half, a.mt);
    a.score_again[0].compute_at(a.softmax_again, a.again_keys[0].x);
    a.mix_again.update().never_partition_all();
    a.softmax_again.update().never_partition_all();
    for (int pass = 0; pass < 2; pass++) {
        a.score_again[pass].update().reorder(a.again_channels[pass].x, a.again_channels[pass].y).unroll(a.again_channels[pass].x);
    }
    if (a.again_channels[2].defined()) {
        a.null_again.compute_at(thread).bound_extent(a.half, 2).bound_extent(a.mt, a.tiles);
        a.null_again.update().reorder(a.again_channels[2].x, a.again_channels[2].y).unroll(a.again_channels[2].x);
    }
}

}  // namespace

void by_threads(const AttentionTile &a, Stage stage, const std::vector<VarOrRVar> &unrolled, const std::vector<VarOrRVar> &loops, const std::vector<VarOrRVar> &outer) {
    std::vector<VarOrRVar> order(unrolled);
    order.insert(order.end(), loops.begin(), loops.end());
    order.insert(order.end(), a.of_queries.begin(), a.of_queries.end());
    order.insert(order.end(), {a.lane, a.warp});
    order.insert(order.end(), outer.begin(), outer.end());
    stage.reorder(order);
    for (const VarOrRVar &v : unrolled) {
        stage.unroll(v);
    }
    stage.gpu_threads(a.lane, a.warp);
}

void store_by_threads(const AttentionTile &a, Func f, std::vector<Var> own) {
    own.insert(own.begin(), {a.lane, a.warp});
    own.insert(own.end(), a.of_queries.begin(), a.of_queries.end());
    f.reorder_storage(own);
}

void schedule_attention_tile(AttentionTile &a, const Func &out, const std::vector<Func> &more) {
    const RVar key_tiles = a.steps.z;
    std::vector<Func> of_loop = {a.sums, a.inverse, a.wanted_again, a.result};
    if (!a.in_shared()) {
        of_loop.push_back(a.q_words);
    }
    of_loop.insert(of_loop.end(), more.begin(), more.end());
    std::vector<Func> of_tile = {a.score, a.top};
    if (a.warpgroups) {
        of_loop.push_back(a.running);
        of_tile.push_back(a.score_group);
    }
    for (Func f : of_loop) {
        f.compute_at(out, a.query_tile);
    }
    for (Func f : of_tile) {
        f.compute_at(a.loop(), key_tiles);
    }
    std::vector<Func> fragments(of_loop);
    fragments.insert(fragments.end(), of_tile.begin(), of_tile.end());
    for (Func f : fragments) {
        f.store_in(MemoryType::Register).bound_extent(a.lane, kLanes).bound_extent(a.warp, a.warps);
        for (const Var &v : f.args()) {
            if (v.name() == a.mt.name()) {
                f.bound_extent(a.mt, a.tiles);
            }
        }
    }
    if (!a.in_shared()) {
        store_by_threads(a, a.q_words, {a.part, a.product, a.mt});
        a.q_words.bound_extent(a.part, 4).bound_extent(a.product, a.products());
        by_threads(a, a.q_words, {a.part, a.product, a.mt});
    }
    schedule_scores(a);
    store_by_threads(a, a.inverse, {a.mt});
    by_threads(a, a.inverse, {a.mt});
    schedule_result(a);
    store_by_threads(a, a.sums, {a.slot, a.mt});
    a.sums.bound_extent(a.slot, a.outputs() + 1);
    by_threads(a, a.sums, {a.slot, a.mt});
    if (a.warpgroups) {
        store_by_threads(a, a.running, {});
        by_threads(a, a.running, {});
        by_threads(a, a.running.update(), {a.steps.x, a.steps.y}, {}, {key_tiles});
    } else {
        by_threads(a, a.sums.update(), {a.steps.x, a.steps.y, a.mt}, {}, {key_tiles});
    }

    // Stored outside the loop over keys, computed inside: a sliding window, hence a ring buffer.
    for (Func *tile : {&a.k_tile, &a.v_tile}) {
        tile->store_at(out, a.query_tile).compute_at(a.loop(), key_tiles).fold_storage(a.key_tile, a.stages);
        schedule_copies(a, *tile, a.keys * a.parts());
    }
    if (a.in_shared()) {
        a.q_tile.compute_at(out, a.query_tile);
        schedule_copies(a, a.q_tile, a.rows_of_block() * a.parts());
    }
    fragments.insert(fragments.end(), {a.k_tile, a.v_tile, a.q_tile});
    for (const Func &f : fragments) {
        bound_to_block(a, f);
    }
}

void bound_to_block(const AttentionTile &a, Func f) {
    for (const Var &own : f.args()) {
        for (const Var &one : a.of_queries) {
            if (own.name() == one.name()) {
                f.bound_extent(one, 1);
            }
        }
    }
}

void give_to_lanes(const AttentionTile &a, Stage out, const VarOrRVar &row, const VarOrRVar &d, const std::vector<VarOrRVar> &blocks) {
    const auto like_row = [&](const char *name) { return VarOrRVar(name, row.is_rvar); };
    const VarOrRVar warp = like_row("w"), of_warp = like_row("row_of_warp"), mt = like_row("tile"), of_tile = like_row("row_of_tile"), half = like_row("half_row"), g = like_row("g");
    const VarOrRVar slot = like_row("column"), of_slot = like_row("of_column"), t = like_row("t"), pair = like_row("pair"), lane = like_row("l");
    const bool wide = a.input == Input::tf32;
    out.split(row, warp, of_warp, a.rows_of_warp())
        .split(of_warp, mt, of_tile, kTileRows)
        .split(of_tile, half, g, 8)
        .split(d, slot, of_slot, wide ? kColumnsOfGroup : kTileColumns)
        .split(of_slot, t, pair, wide ? kNeighbours : 2)
        .fuse(t, g, lane);
    std::vector<VarOrRVar> order = {pair, half, slot, mt, lane, warp};
    order.insert(order.end(), blocks.begin(), blocks.end());
    out.reorder(order).vectorize(pair).unroll(half).unroll(slot).unroll(mt).gpu_threads(lane, warp);
}

void read_by_16_bytes(const AttentionTile &a, ImageParam &tensor) {
    const int elements = kWordsOfCopy * elements_of_word(a.input);
    tensor.dim(0).set_bounds(0, a.head_dim).set_stride(1);
    for (int i = 1; i < tensor.dimensions(); i++) {
        tensor.dim(i).set_min(0).set_stride(tensor.dim(i).stride() / elements * elements);
    }
    tensor.set_host_alignment(kCopyBytes);
}

void write_by_16_bytes(const AttentionTile &a, OutputImageParam out) {
    const int elements = kWordsOfCopy * elements_of_word(a.input);
    out.dim(0).set_bounds(0, a.head_dim).set_stride(1);
    for (int i = 1; i < out.dimensions(); i++) {
        out.dim(i).set_stride(out.dim(i).stride() / elements * elements);
    }
    out.set_host_alignment(kCopyBytes);
}

}  // namespace moa::tensor_core
