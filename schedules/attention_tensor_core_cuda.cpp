#include "generators/attention_tensor_core.h"
#include "schedules/attention_tile_cuda.h"

namespace moa {

using namespace Halide;
using namespace moa::tensor_core;

namespace {

void schedule_out(AttentionTensorCore &a) {
    Var row("row"), eb("eb");
    a.out.bound(a.d, 0, a.tile.head_dim).split(a.i, a.tile.query_tile, row, a.tile.rows_of_block(), TailStrategy::GuardWithIf).fuse(a.e, a.b, eb);
    give_to_lanes(a.tile, a.out, row, a.d, {a.tile.query_tile, a.h, eb});
    a.out.gpu_blocks(a.tile.query_tile, a.h, eb);
}

void schedule_own(AttentionTensorCore &a) {
    const AttentionTile &tile = a.tile;
    if (a.valid.defined()) {
        a.valid.compute_at(tile.loop(), tile.steps.z)
            .store_in(MemoryType::Register)
            .bound_extent(tile.lane, kLanes)
            .bound_extent(tile.warp, tile.warps)
            .reorder(tile.key_tile, a.e, a.b, tile.lane, tile.warp)
            .gpu_threads(tile.lane, tile.warp);
        bound_to_block(tile, a.valid);
    }
    a.null_part.bound_extent(a.half, 2);
    store_by_threads(tile, a.null_part, {a.half, tile.mt});
    by_threads(tile, a.null_part, {a.half, tile.mt});
    by_threads(tile, a.null_part.update(), {a.null_channels.x, a.half, tile.mt, a.null_channels.y}, {});
    store_by_threads(tile, a.null_score, {tile.mt});
    by_threads(tile, a.null_score, {tile.mt});
    for (const Func &f : {a.null_part, a.null_score}) {
        bound_to_block(tile, f);
    }
}

}  // namespace

// Knobs: a block's warps * tiles * 16 queries; keys of a tile; stages: tiles in shared memory, of which all but one are on
// their way. On one H100, bf16, 16384 queries and keys of 16 heads: 336 TFLOP/s for head_dim 64 with 4 x 2 x 16 queries, 64
// keys and 3 stages, 371 for 128 with as many, 2 stages and shared queries (not masked); FlashAttention-2 has 309 and 368.
// Masked keys and keys beyond the last are two passes: one cost 14 % in place of 5 (mma, heads of 64, random mask and null key).
//
// By warpgroups, ms at 1024 positions of 128 heads, 4096 of 32 and 16384 of 16 (moa bench --suite reference --row .., one H100, least of two
// alternated runs):
//   heads of 64, 128 keys, 4 warps, 2 stages, copies last: 0.104, 0.332 (413 TFLOP/s), 2.56 (429); copies first: 0.112, 0.340, 2.60;
//   64 keys, copies first: 0.104, 0.344, 2.63, last: 0.106, 0.354, 2.71; 8 warps: 0.103 to 0.122, 0.346 to 0.378, 2.63 to 2.79.
//   heads of 128, 64 keys, 8 warps, 2 stages, copies last: 0.159, 0.521 (528), 3.97 (554); 128 keys: 0.191, 0.587, 4.39, copies first:
//   0.198, 0.616, 4.62; 3 stages of 64 keys: 0.216, 0.691, 5.21; 4 warps: 0.195, 0.625, 4.64; 32 keys: 0.181, 0.586, 4.46.
// Two blocks on a multiprocessor, of which one multiplies while the other is at its softmax, are worth more than larger tiles.
// A random mask and a null key cost 8 and 5 % there: 12 and 13 % where every bit was tested by an instruction of its own and queries
// were read by elements for the null key. The pass of keys beyond the last comes before the masked ones: for heads of 128 that
// is 172 registers in place of 199, and 10 %.
void schedule_attention_tensor_core_cuda(AttentionTensorCore &a, const Target &, const Values &) {
    schedule_out(a);
    schedule_attention_tile(a.tile, a.out, {a.null_part, a.null_score});
    schedule_own(a);
    for (ImageParam *p : {&a.q, &a.k, &a.v}) {
        read_by_16_bytes(a.tile, *p);
    }
    write_by_16_bytes(a.tile, a.out.output_buffer());
}

MOA_SCHEDULE(AttentionTensorCore, cuda, schedule_attention_tensor_core_cuda);

}  // namespace moa
