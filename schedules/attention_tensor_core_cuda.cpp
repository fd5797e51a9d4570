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
// By warpgroups, same kind of GPU, one run: heads of 64 at 16384 positions of 16 heads and 4096 of 32: 398 and 389 TFLOP/s with 64 keys, 4
// warps and 2 stages (3: 376 and 361; 8 warps: 397 and 380; 128 keys: 420 and 390, but 310 for 328 at 1024 positions); heads of 128: 432
// and 409 with 128 keys and 8 warps (64 keys: 422 to 429 and 398); by mma then 320, 306, 340 and 325. A random mask and a null key
// cost 5 and 6 % (0.356 and 0.373 ms, 0.621 and 0.661: moa bench --suite reference --case attention_4096x32_d64_masked and so on, three
// alternated runs): 12 and 13 % where every bit was tested by an instruction of its own and queries were read by elements for the null
// key; the pass of keys beyond the last before the other one made heads of 128 10 % faster (registers: 172, not 199).
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
