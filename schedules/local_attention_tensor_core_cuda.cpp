#include "generators/local_attention_tensor_core.h"
#include "schedules/attention_tile_cuda.h"

namespace moa {

using namespace Halide;
using namespace moa::tensor_core;

// Knobs: those of attention_tensor_core_cuda.cpp. By warpgroups 4096 positions of 32 heads of 64 and a window of 128 take 0.058 ms, by mma
// 0.068 (moa bench --op local_attention --device cuda:0 --dtype bf16 --shape n4096_w128_d64_h8_b4_fwd_exact_turned, one H100); other heads and
// windows 6 to 17 % less than by mma, causal ones up to 34 %. Tiles of 128 keys: 0.079, copies first: 0.059.
void schedule_local_attention_tensor_core_cuda(LocalAttentionTensorCore &a, const Target &, const Values &) {
    const AttentionTile &tile = a.tile;
    const Var &u = tile.query_tile;
    a.out.bound(a.d, 0, tile.head_dim).bound(a.w, 0, tile.rows_of_block()).gpu_blocks(u, a.h, a.b);  // nothing, but not the host's
    give_to_lanes(tile, a.out.update(), a.rows.y, a.rows.x, {u, a.h, a.b});
    a.out.update().gpu_blocks(u, a.h, a.b);

    schedule_attention_tile(a.tile, a.out);
    a.log2_scale.compute_at(a.out, u).store_in(MemoryType::Register).bound_extent(tile.lane, kLanes).bound_extent(tile.warp, tile.warps);
    a.log2_scale.reorder(u, a.h, a.b, tile.lane, tile.warp).gpu_threads(tile.lane, tile.warp);
    bound_to_block(tile, a.log2_scale);
    a.q_cos.dim(0).set_min(0);
    a.q_cos.dim(1).set_min(0);
    for (ImageParam *p : {&a.q, &a.k, &a.v}) {
        read_by_16_bytes(tile, *p);
    }
    write_by_16_bytes(tile, a.out.output_buffer());
}

MOA_SCHEDULE(LocalAttentionTensorCore, cuda, schedule_local_attention_tensor_core_cuda);

}  // namespace moa
