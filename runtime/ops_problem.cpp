#include "runtime/ops.h"

#include <algorithm>
#include <array>
#include <initializer_list>

namespace moa::ops {

namespace {

// Whether every row of the views' elements begins at a multiple of 16 bytes and is as long: what copies of that size ask for.
int64_t aligned(std::initializer_list<const View *> views) {
    constexpr int64_t kBytes = 16;
    return std::all_of(views.begin(), views.end(), [](const View *view) {
        const auto size = static_cast<int64_t>(size_bytes(view->dtype));
        bool fits = reinterpret_cast<uintptr_t>(view->data) % kBytes == 0 && view->extent(0) * size % kBytes == 0;
        for (int axis = 1; axis < view->rank; axis++) {
            fits = fits && view->axes[axis].stride * size % kBytes == 0;  // rows ask that of axes with one element, too
        }
        return fits;
    })
               ? 1
               : 0;
}

constexpr int64_t kNeighbours = 8;  // columns of an output row that rows for tensor cores write at once, whatever the type (generators/tensor_core/fragment.h)
constexpr int64_t kTile = 128;      // "tiles": how many of 128 x 128 the output has over experts and batch, the work there is to share out

}  // namespace

Problem problem(const RouterScores &a) {
    return {"router_scores", a.x.dtype, {{"positions", a.x.extent(1)}, {"dim_in", a.x.extent(0)}, {"routers", a.tokens.extent(1)}, {"batch", a.x.extent(2)}}};
}
Problem problem(const RowStatistics &a) {
    return {"row_statistics", a.x.dtype, {{"positions", a.x.extent(1)}, {"dim_in", a.x.extent(0)}}};
}
Problem problem(const CoordinateDescent &a) {
    return {"coordinate_descent", DType::f32, {{"positions", a.scores.extent(0)}, {"iterations", a.eps.extent(0) - 1}}};
}
Problem problem(const CoordinateDescentStep &a) {
    return {"coordinate_descent_step", DType::f32, {{"positions", a.scores.extent(0)}}};
}
Problem problem(const CoordinateDescentFinish &a) {
    return {"coordinate_descent_finish", DType::f32, {{"positions", a.scores.extent(0)}}};
}
Problem problem(const SelectTokens &a, bool rank_order) {
    return {"select_tokens", DType::f32, {{"positions", a.scores.extent(0)}, {"selected", a.k}, {"rank", rank_order ? 1 : 0}}};
}
Problem problem(const RouteSlots &a) {
    return {"route_slots", DType::f32, {{"positions", a.mask.extent(0)}, {"selected", a.indices.extent(0)}}};
}
Problem problem(const SelectSlots &a) {
    return {"select_slots", DType::f32, {{"positions", a.scores.extent(0)}, {"selected", a.indices.extent(0)}}};
}
Problem problem(const CopyIndices &a) {
    return {"copy_indices", DType::f32, {{"selected", a.out.extent(0)}, {"narrow", a.out.dtype == DType::i32 ? 1 : 0}}};
}
Problem problem(const Project &a) {
    const int64_t d = a.out.extent(0), h = a.out.extent(2);
    const bool plain = d % 32 == 0 && a.rotary_heads == 0 && a.activation == Activation::none;  // panels are 8, 16 or 32 wide
    const bool rotary = a.rotary_heads > 0;
    const auto parts = [](int64_t extent) { return (extent + kTile - 1) / kTile; };
    const int64_t tiles = parts(a.out.extent(1)) * parts(d * h) * a.out.extent(3) * a.out.extent(4);
    const int64_t at_16_bytes = rotary ? aligned({&a.x, &a.out, &a.cosines, &a.sines}) : aligned({&a.x, &a.out});
    const int64_t fits = d % kNeighbours == 0 ? at_16_bytes : 0;
    return {"project", a.x.dtype, {{"rows", a.out.extent(1)}, {"dim_in", a.x.extent(0)}, {"dim_out", d * h}, {"head_dim", d}, {"heads", h}, {"plain", plain ? 1 : 0}, {"rotary", rotary ? 1 : 0}, {"activation", a.activation == Activation::none ? 0 : 1}, {"aligned", fits}, {"tiles", tiles}}};
}
Problem problem(const Attention &a) {
    return {"attention", a.q.dtype, {{"queries", a.q.extent(1)}, {"keys", a.k.extent(1)}, {"head_dim", a.q.extent(0)}, {"heads", a.q.extent(2)}, {"aligned", aligned({&a.q, &a.k, &a.v, &a.out})}}};
}
Problem problem(const LocalAttention &a) {
    const int64_t d = a.q.extent(0);
    const bool plain = !a.has_bias && !a.has_gate && !a.shared_qk && !a.normalize_q && !a.normalize_k;
    const bool turned = a.turned && a.zero_keys == 0;  // rows for tensor cores, which alone ask, know no others than the last window's
    return {"local_attention", a.q.dtype, {{"positions", a.q.extent(1)}, {"window", a.window}, {"slots", slots_of(a)}, {"head_dim", d}, {"heads", a.q.extent(2)}, {"plain", plain ? 1 : 0}, {"exact", a.exact ? 1 : 0}, {"masked", a.has_mask ? 1 : 0}, {"turned", turned ? 1 : 0}, {"aligned", aligned({&a.q, &a.k, &a.v, &a.out})}}};
}
Problem problem(const Combine &a) {
    return {"combine", a.out.dtype, {{"positions", a.out.extent(1)}, {"dim_out", a.out.extent(0)}, {"experts", a.a.extent(2)}}};
}
Problem problem(const RotaryTable &a) {
    return {"rotary_table", DType::f32, {{"positions", a.angles.extent(1)}, {"head_dim", a.angles.extent(0)}}};
}

}  // namespace moa::ops
