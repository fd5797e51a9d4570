#include "runtime/ops.h"
#include "runtime/ops_absent.h"
#include "runtime/ops_check.h"

#include <algorithm>

namespace moa::ops {

namespace {

constexpr int64_t kZeroWidth = Absent::kZeros;

// d n h b -> d w u h b. The last window may reach beyond the memory: the kernel leaves alone what is no position.
View in_windows(const View &out, int64_t window) {
    const Axis positions = out.axes[1];
    View windows = out.insert(2, {(positions.extent + window - 1) / window, positions.stride * window});
    windows.axes[1].extent = window;
    return windows;
}

// Packed panels as one list of groups.
View all_groups(const View &panels) {
    return View::dense(panels.data, panels.dtype, {panels.extent(0), panels.extent(1) * panels.extent(2) * panels.extent(3)});
}

}  // namespace

Status run(Run &run, const Row &row, const Project &given) {
    Project a = given;
    const int64_t d = a.out.extent(0), m = a.out.extent(1), h = a.out.extent(2), e = a.out.extent(3), b = a.out.extent(4);
    const int64_t positions = std::max(a.cosines.extent(1), a.sines.extent(1)), planes = a.scale.extent(1);
    const Check check = Check(row, problem(given))
                            .rank("x", a.x, 3)
                            .rank("out", a.out, 5)
                            .that(a.x.extent(0) > 0, "x has no channels")
                            .rank("weights", a.weights, 4)
                            .that(a.weights.extent(3) == e, "the weights are not those of {} experts", e)
                            .that(a.x.dtype == a.out.dtype, "x is {}, out {}", name_of(a.x.dtype), name_of(a.out.dtype))
                            .input("rows", a.rows, {m, e, b})
                            .input("stats", a.stats, {a.x.extent(1), 3, a.x.extent(2)})
                            .input("colsum", a.colsum, {d * h, e})
                            .input("bias", a.bias, {d * h, e})
                            .input("cosines", a.cosines, {d, positions, e, b})
                            .input("sines", a.sines, {d, positions, e, b})
                            .input("positions", a.positions, {m, e, b})
                            .input("scale", a.scale, {m, planes, e, b})
                            .that(a.rotary_heads == 0 || d % 2 == 0, "rotary positions need an even head width, not {}", d)
                            .that(a.scale_heads > 0 && h <= a.scale_heads * planes, "{} planes of {} heads scale less than {} heads", planes, a.scale_heads, h)
                            .that(a.gather || (a.x.extent(1) == m && a.x.extent(2) == b), "x has {} x {} rows and is not gathered, out has {} x {}",
                                  a.x.extent(1), a.x.extent(2), m, b);
    if (!check.status().ok() || nothing(a.out)) {
        return check.status();
    }
    if (nothing(a.x)) {
        return invalid("project: {} rows are gathered from none", m);
    }
    if (row.knob("tiles", 0) != 0) {
        a.weights = all_groups(a.weights);
    }
    return run.launch(row, {a.x, a.rows, a.weights, a.stats, a.colsum, a.bias, a.cosines, a.sines, a.positions, a.scale, i(a.gather), static_cast<int32_t>(a.norm),
                            static_cast<float>(a.norm_dim), static_cast<int32_t>(a.activation), a.rotary_heads, a.scale_heads, a.out});
}

Status run(Run &run, const Row &row, const Attention &given) {
    Attention a = given;
    const int64_t d = a.q.extent(0), n = a.q.extent(1), m = a.k.extent(1), h = a.q.extent(2), e = a.q.extent(3), b = a.q.extent(4);
    const Check check = Check(row, problem(given))
                            .rank("q", a.q, 5)
                            .extents("k", a.k, {d, m, h, e, b})
                            .extents("v", a.v, {d, m, h, e, b})
                            .input("mask", a.mask, {m, e, b})
                            .input("null_key", a.null_key, {d, h, e})
                            .input("null_value", a.null_value, {d, h, e})
                            .extents("out", a.out, {d, n, h, e, b})
                            .that(m > 0 || (a.has_null && d <= kZeroWidth), "no keys, and no null key or a head wider than {}", kZeroWidth);
    if (!check.status().ok() || nothing(a.out)) {
        return check.status();
    }
    if (m == 0) {
        // One masked key in the place of none: what is left is the null key.
        a.k = a.v = View(const_cast<float *>(kAbsent.zeros.data()), a.q.dtype, {{d, 1}, {1, kZeroWidth}, {h, 0}, {e, 0}, {b, 0}});
        a.mask = View(const_cast<float *>(kAbsent.zeros.data()), DType::u8, {{1, 0}, {e, 0}, {b, 0}});
    }
    return run.launch(row, {a.q, a.k, a.v, a.mask, a.null_key, a.null_value, a.scale, i(a.has_null), a.out});
}

Status run(Run &run, const Row &row, const LocalAttention &given) {
    LocalAttention a = given;
    const int64_t d = a.q.extent(0), n = a.q.extent(1), h = a.q.extent(2), b = a.q.extent(3);
    const int64_t slots = slots_of(a);
    const Check check = Check(row, problem(given))
                            .that(a.window > 0 && a.look_backward >= 0 && a.look_forward >= 0 && slots <= INT32_MAX, "window {}, {} back, {} ahead", a.window,
                                  a.look_backward, a.look_forward)
                            .rank("q", a.q, 4)
                            .extents("k", a.k, {d, n, h, b})
                            .extents("v", a.v, {d, n, h, b})
                            .input("mask", a.mask, {n, b})
                            .input("q_cos", a.q_cos, {d, slots})
                            .input("q_sin", a.q_sin, {d, slots})
                            .input("k_cos", a.k_cos, {d, slots})
                            .input("k_sin", a.k_sin, {d, slots})
                            .input("q_gain", a.q_gain, {d})
                            .input("k_gain", a.k_gain, {d})
                            .input("bias", a.bias, {slots, a.window, h})
                            .input("gate", a.gate, {h, n, b})
                            .extents("out", a.out, {d, n, h, b});
    if (!check.status().ok() || nothing(a.out)) {
        return check.status();
    }
    a.out = in_windows(a.out, a.window);
    return run.launch(row, {a.q, a.k, a.v, a.mask, a.q_cos, a.q_sin, a.k_cos, a.k_sin, a.q_gain, a.k_gain, a.bias, a.gate, a.window, a.look_backward, a.look_forward,
                            i(a.causal), i(a.exact), i(a.shared_qk), i(a.normalize_q), i(a.normalize_k), i(a.has_bias), i(a.has_gate), i(a.has_mask), a.left_out, a.left_outside, a.zero_keys, a.out});
}

}  // namespace moa::ops
