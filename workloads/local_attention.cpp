#include "workloads/local_attention.h"

namespace moa::workloads {

namespace {

Layout layout_of(const Shape &shape) {
    return {.pad = shape("pad"), .shift = shape("shift"), .swap = shape.has("swap")};
}

// Scores of -2^100 and -2^101 in f32 and bf16, near the largest magnitude in f16: exact, so that every second key takes all.
void make_huge(DType dtype, Array &q, Array &k) {
    const double large = dtype == DType::f16 ? 0x1p13 : 0x1p50;
    const int64_t d = q.extents[0];
    std::fill(q.data.begin(), q.data.end(), 0.0);
    std::fill(k.data.begin(), k.data.end(), 0.0);
    for (int64_t first = 0; first < elements_of(q.extents); first += d) {
        q.data[first] = large;
        k.data[first] = first / d % 2 == 0 ? -large : -2 * large;
    }
}

}  // namespace

LocalAttention::LocalAttention(const Shape &shape, DType dtype, uint64_t seed)
    : OpInstance(dtype, seed) {
    const int64_t d = shape("d"), h = shape("h"), b = shape("b"), n = shape("n");
    const Layout layout = layout_of(shape);
    auto &a = arguments_;
    a.window = static_cast<int32_t>(shape("w"));
    a.look_backward = static_cast<int32_t>(shape("back"));
    a.look_forward = static_cast<int32_t>(shape("fwd"));
    a.causal = shape.has("causal");
    a.exact = shape.has("exact");
    a.shared_qk = shape.has("shared");
    a.normalize_q = shape.has("qnorm");
    a.normalize_k = shape.has("knorm") || a.shared_qk;
    a.has_bias = shape.has("bias");
    a.has_gate = shape.has("gate");
    a.has_mask = shape.has("mask");
    a.turned = shape.has("turned");
    if (a.causal && a.look_forward > 0) {
        throw ShapeError("causal windows cannot look forward");
    }
    if (shape.has("rotary") && d % 2 != 0) {
        throw ShapeError("rotary needs an even d");
    }
    if (a.turned && (shape.has("rotary") || shape.has("xpos") || a.normalize_q)) {
        throw ShapeError("turned queries and keys have no rotary positions, powers or gains in their tables");
    }
    const Array mask = mask_array(random(), {n, b}, static_cast<Mask>(shape("mask")));
    Array q = normal_array(random(), {d, n, h, b}), k = normal_array(random(), q.extents),
          v = normal_array(random(), q.extents);
    if (shape.has("nan")) {
        plant_nan(k, v, mask);
    }
    if (shape.has("huge")) {
        make_huge(dtype, q, k);
        exact_scores_ = true;
    }
    q_ = &input("q", dtype, q, layout);
    k_ = &input("k", dtype, k, layout);
    v_ = &input("v", dtype, v, layout);
    mask_ = &input("mask", DType::u8, mask, {.pad = layout.pad}, a.has_mask ? 0 : 3);
    add_tables(shape);
    q_gain_ = &input("q_gain", DType::f32, a.normalize_q ? normal_array(random(), {d}) : Array({d}, 1));
    k_gain_ = &input("k_gain", DType::f32,
                     a.normalize_k && !a.shared_qk ? normal_array(random(), {d}) : Array({d}, 1));
    bias_ =
        &input("bias", DType::f32,
               a.has_bias && !exact_scores_ ? normal_array(random(), {slots(), a.window, h}) : Array({slots(), a.window, h}, a.has_bias ? -0x1p100 : 0),
               {}, a.has_bias ? 0 : 7);
    gate_ = &input("gate", dtype, a.has_gate ? normal_array(random(), {h, n, b}, 2) : Array({h, n, b}),
                   {.pad = layout.pad}, a.has_gate ? 0 : 7);
    out_ = &output("out", dtype, q.extents, layout);
    a.q = q_->view(), a.k = k_->view(), a.v = v_->view(), a.mask = mask_->view();
    a.q_cos = q_cos_->view(), a.q_sin = q_sin_->view(), a.k_cos = k_cos_->view(), a.k_sin = k_sin_->view();
    a.q_gain = q_gain_->view(), a.k_gain = k_gain_->view(), a.bias = bias_->view(), a.gate = gate_->view(),
    a.out = out_->view();
}

// Slot tables with what layers fold into them: the scale of the scores, and xpos' powers.
void LocalAttention::add_tables(const Shape &shape) {
    const int64_t d = shape("d"), count = slots(), base = std::max(arguments_.window / 2, 1);
    Array tables[4] = {Array({d, count}), Array({d, count}), Array({d, count}), Array({d, count})};
    const double scale = arguments_.normalize_q ? 4 : 1 / std::sqrt(static_cast<double>(d));
    for (int64_t t = 0; t < count; t++) {
        for (int64_t c = 0; c < d; c++) {
            const double j = static_cast<double>(c % std::max<int64_t>(d / 2, 1)),
                         width = static_cast<double>(d);
            const double angle =
                shape.has("rotary") ? static_cast<double>(t) * std::pow(10000.0, -2 * j / width) : 0;
            const double power = (static_cast<double>(t) - std::floor(static_cast<double>(count) / 2)) / static_cast<double>(base);
            const double zeta =
                shape.has("xpos") ? std::pow((2 * j + 0.4 * width) / (1.4 * width), power) : 1;
            tables[0](c, t) = std::cos(angle) * scale * zeta;
            tables[1](c, t) = std::sin(angle) * scale * zeta;
            tables[2](c, t) = std::cos(angle) / zeta;
            tables[3](c, t) = std::sin(angle) / zeta;
        }
    }
    q_cos_ = &input("q_cos", DType::f32, tables[0]);
    q_sin_ = &input("q_sin", DType::f32, tables[1]);
    k_cos_ = &input("k_cos", DType::f32, tables[2]);
    k_sin_ = &input("k_sin", DType::f32, tables[3]);
}

// Where a mask hides it. (A query without any valid key averages all of its slots, masked ones included.)
void LocalAttention::plant_nan(Array &k, Array &v, const Array &mask) {
    const int64_t n = mask.extents[0];
    for (int64_t b = 0; b < mask.extents[1]; b++) {
        for (int64_t j = 0; j < n; j++) {
            for (int64_t h = 0; h < k.extents[2] && mask(j, b) == 0; h++) {
                k(j % k.extents[0], j, h, b) = kNan;
                v(j % v.extents[0], j, h, b) = kHidden[j % 2];
            }
        }
    }
}

const Workload &local_attention_workload() {
    static const Workload workload(
        "local_attention", false,
        {{"b", 1, 0, 1 << 20, "batch"},
         {"h", 1, 1, 4096, "heads"},
         {"n", 64, 0, 1 << 24, "positions"},
         {"w", 16, 1, 1 << 16, "window"},
         {"d", 64, 1, 4096, "channels of a head"},
         {"back", 1, 0, 64, "windows to look back"},
         {"fwd", 0, 0, 64, "windows to look ahead"},
         {"causal", 0, 0, 1, "no key after its query"},
         {"exact", 0, 0, 1, "at most w * back positions back and w * fwd ahead"},
         {"shared", 0, 0, 1, "shared query-key space: normalised keys, no look at oneself"},
         {"qnorm", 0, 0, 1, "normalised queries with a gain"},
         {"knorm", 0, 0, 1, "normalised keys with a gain"},
         {"rotary", 0, 0, 1, "rotary positions"},
         {"xpos", 0, 0, 1, "xpos scaling"},
         {"turned", 0, 0, 1, "queries and keys that are turned already"},
         {"bias", 0, 0, 1, "bias of the scores"},
         {"gate", 0, 0, 1, "gates"},
         {"mask", 0, 0, 5, kMaskMeaning},
         {"nan", 0, 0, 1, "NaN and infinities in masked keys"},
         {"huge", 0, 0, 1, "scores of -2^100 and less, the winners equal; so is a bias"},
         {"swap", 0, 0, 1, "tensors in memory as b n h d"},
         {"pad", 0, 0, 1 << 20, "unused elements after every row"},
         {"shift", 0, 0, 63, "elements that tensors are off a 64-byte boundary"}},
        {.smoke = {"n70_w16_d32_h2_fwd_exact_rotary"},
         .regular = {"n256_w64_d64_h2_fwd_exact_rotary", "n256_w64_d64_h2_causal_exact_rotary_swap",
                     "n200_w32_d64_b2_fwd_mask1_rotary_exact",
                     "n256_w128_d64_fwd_exact_rotary_qnorm_knorm_gate", "n192_w64_d128_causal_rotary",
                     "n160_w32_d32_fwd_rotary_xpos"},
         .irregular = {"n1_w1_d2_fwd",
                       "n1_w16_d64_causal_exact",
                       "n5_w1_d4_fwd_exact_rotary",
                       "n17_w16_d6_fwd_rotary",
                       "n31_w16_d64_fwd_exact_mask1_nan0_rotary",
                       "n33_w16_d10_h3_b2_fwd_mask1_nan_swap_pad3",
                       "n50_w7_d32_back2_causal_bias",
                       "n50_w7_d32_back3_fwd2_exact_bias_gate_h2",
                       "n45_w9_d8_back0",
                       "n45_w9_d8_back0_exact",
                       "n45_w9_d8_back0_causal_exact",
                       "n48_w8_d16_fwd_shared_rotary",
                       "n43_w8_d16_causal_shared_exact_mask1",
                       "n9_w8_d16_back0_shared_causal",
                       "n60_w16_d64_fwd_mask2",
                       "n60_w16_d64_fwd_mask2_bias_gate_rotary",
                       "n60_w16_d64_b3_fwd_mask3_exact_rotary",
                       "n60_w16_d64_causal_mask4",
                       "n77_w10_d34_fwd2_rotary_xpos_mask5_pad1_shift1",
                       "n130_w64_d64_fwd_exact_rotary_shift3_swap_h3",
                       "n129_w128_d128_fwd_exact_rotary",
                       "n100_w100_d20_causal_rotary_qnorm_knorm_gate_bias_h2_b2",
                       "n61_w5_d64_back5_fwd5_exact_mask1_rotary",
                       "n40_w64_d64_fwd_exact_rotary",
                       "n40_w64_d64_fwd_rotary",
                       "n67_w4_d7_fwd_mask1_gate",
                       "n40_w8_d64_fwd_qnorm_rotary_xpos_h2",
                       "n256_w128_d64_h2_fwd_exact_turned",
                       "n300_w128_d64_b2_fwd_exact_turned_swap",
                       "n257_w64_d64_h3_causal_exact_turned",
                       "n200_w64_d32_back2_causal_exact_turned",
                       "n511_w128_d128_back2_fwd_exact_turned",
                       "n100_w64_d128_back0_fwd2_exact_turned",
                       "n1_w128_d64_fwd_exact_turned",
                       "n130_w128_d32_back0_exact_turned",
                       "n200_w128_d64_fwd_exact_turned_pad8",
                       "n200_w128_d64_fwd_exact_turned_pad3_shift1",
                       "n200_w96_d64_fwd_turned_mask1",
                       "n45_w9_d33_fwd_mask1",
                       "n70_w16_d40_fwd_exact_rotary_bias_h2",
                       "n37_w8_d48_causal_back2_exact_shared",
                       "n66_w32_d80_fwd_exact_mask1_nan_b2",
                       "n100_w50_d96_causal_gate",
                       "n40_w20_d100_fwd2_qnorm_knorm_rotary",
                       "n33_w16_d160_fwd_exact",
                       "n53_w8_d217_causal_mask1",
                       "n50_w16_d256_fwd_exact_rotary",
                       "n53_w8_d270_h2_fwd_exact_rotary",
                       "n40_w16_d513_causal_mask1",
                       "n0_w4_d8",
                       "n4_w4_d8_b0"},
         .options = {{"n37_w8_h2"},
                     {"d32"},
                     {"causal", "causal_back2_exact", "fwd", "fwd_exact", "back0_fwd2"},
                     {"", "shared", "qnorm_knorm"},
                     {"", "rotary", "rotary_xpos"},
                     {"", "bias"},
                     {"", "gate"},
                     {"", "mask1_nan", "mask5"}},
         // All places are hidden from some queries of their own window, and some by a mask.
         .not_finite = {{{"n37_w8_h2_at250"}, {"d32", "d20"}, {"causal", "causal_back2_exact", "fwd", "fwd_exact"}, {"", "mask5"}, {"bad1", "bad2", "bad3"}, {"", "as2"}},
                        {{"n37_w8_h2_d64_at430_mask5"}, {"causal", "fwd_exact"}, {"bad1", "bad2", "bad3"}, {"", "as1"}},
                        {{"n200_h2_w64_at250"}, {"d32", "d64", "d128"}, {"causal_exact_turned", "fwd_exact_turned", "fwd_exact_rotary", "causal_mask1"}, {"bad1", "bad2_as3", "bad3_as1"}},
                        {{"n300_w128_fwd_exact_turned_at430"}, {"d32", "d64", "d128"}, {"bad1_as1", "bad2", "bad3"}},
                        {{"n37_w8_h2_d32_back2"}, {"causal_shared", "causal_exact_qnorm_knorm_rotary_xpos"}, {"bad1", "bad2", "bad3", "bad6", "bad7"}, {"", "as1"}},
                        {{"n37_w8_h2_d32_bias_gate"}, {"causal_exact", "fwd_mask1", "qnorm_knorm"}, {"bad3", "bad11", "bad12"}, {"", "as1", "as2"}},
                        {{"n37_w8_d32_qnorm_knorm"}, {"bad9", "bad10"}, {"", "as1"}},
                        {{"n37_w8_d32_h2_b2"}, {"mask2", "mask3", "mask4"}, {"fwd", "causal_exact"}, {"bad1", "bad2", "bad3"}, {"at110", "at850"}},
                        {{"huge_h2"}, {"n37_w8", "n200_w64"}, {"d32", "d64", "d128", "d20"}, {"fwd", "causal_exact", "fwd_exact_turned", "mask1_fwd_exact", "bias_causal_exact"}}},
         .perf = {"n4096_w128_d64_h8_b4_fwd_exact_turned", "n4096_w128_d64_h8_fwd_exact_rotary", "n4096_w128_d64_h8_causal_exact_rotary_b2",
                  "n4096_w64_d64_h8_fwd_exact_rotary_mask1"},
         .edges = {"n130_w128_d64_back1_fwd2_exact_rotary", "n100_w171_d64_fwd_exact_rotary", "n140_w128_d32_back1_fwd2_exact_mask1", "n100_w171_d32_fwd",
                   "n129_w128_d128_back1_fwd2_rotary", "n100_w171_d128_fwd_exact_mask5", "n130_w64_d32_fwd_exact_turned", "n193_w64_d64_fwd_exact_turned",
                   "n130_w64_d128_back2_causal_exact_turned", "n257_w128_d32_causal_exact_turned", "n33_w16_d216_fwd_exact_bias", "n33_w16_d217_fwd_gate"}},
        [](const Shape &shape, DType dtype, uint64_t seed) -> std::unique_ptr<Instance> {
            return std::make_unique<LocalAttention>(shape, dtype, seed);
        });
    return workload;
}

}  // namespace moa::workloads
