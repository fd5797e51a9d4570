#include "workloads/data.h"
#include "workloads/workload.h"

#include <algorithm>
#include <numeric>

namespace moa::workloads {

namespace {

class Combine : public OpInstance<ops::Combine> {
public:
    Combine(const Shape &shape, DType dtype, uint64_t seed);

    double flops() const override {
        return static_cast<double>(elements_of(out_->extents())) * static_cast<double>(a_->extents()[2]);
    }

protected:
    std::vector<Expected> reference() const override;

private:
    Array random_slots(int64_t n, int64_t m, int64_t e, int64_t b);

    Tensor *a_, *slots_, *valid_, *local_, *null_token_, *mask_, *out_;
};

// Every routed slot at a position of its own.
Array Combine::random_slots(int64_t n, int64_t m, int64_t e, int64_t b) {
    Array slots({n, e, b}, -1);
    std::vector<int64_t> order(n);
    std::iota(order.begin(), order.end(), 0);
    for (int64_t row = 0; row < e * b; row++) {
        for (int64_t slot = 0; slot < m; slot++) {
            std::swap(order[slot], order[slot + random().below(n - slot)]);
            slots.data[row * n + order[slot]] = static_cast<double>(slot);
        }
    }
    return slots;
}

Combine::Combine(const Shape &shape, DType dtype, uint64_t seed)
    : OpInstance(dtype, seed) {
    const int64_t n = shape("n"), c = shape("c"), e = shape("e"), b = shape("b");
    const bool unrouted = shape.has("unrouted"), local = shape.has("local"), exact = shape.has("exact"),
               mask = shape.has("mask");
    const int64_t m = unrouted ? n : shape("m");
    const Layout layout{.pad = shape("pad"), .shift = shape("shift")};
    if (m > n) {
        throw ShapeError("m exceeds n: slots lie at distinct positions");
    }
    Array a = data_array(random(), {c, m, e, b}, exact), valid({m, e, b});
    for (size_t i = 0; i < valid.data.size(); i++) {
        valid.data[i] = random().chance(0.8) ? 1 : 0;
        if (shape.has("nan") && i % 5 == 2) {  // reaches its own position only, and none if that is masked
            a.data[static_cast<int64_t>(i) * c + random().below(c)] = kNan;
        }
    }
    const Array positions = mask_array(random(), {n, b}, static_cast<Mask>(shape("mask")));
    a_ = &input("a", dtype, a, layout);
    slots_ = &input("slots", DType::i32, unrouted ? Array({n, e, b}) : random_slots(n, m, e, b), layout,
                    unrouted ? 7 : 0);
    valid_ = &input("valid", DType::u8, unrouted ? Array(valid.extents) : valid, layout, unrouted ? 7 : 0);
    local_ = &input("local", dtype, local ? data_array(random(), {c, n, b}, exact) : Array({c, n, b}), layout,
                    local ? 0 : 7);
    null_token_ = &input("null_token", DType::f32, data_array(random(), {c}, exact));
    mask_ = &input("mask", DType::u8, positions, layout, mask ? 0 : 3);
    out_ = &output("out", dtype, {c, n, b}, layout);
    arguments_ = {.a = a_->view(),
                  .slots = slots_->view(),
                  .valid = valid_->view(),
                  .local = local_->view(),
                  .null_token = null_token_->view(),
                  .mask = mask_->view(),
                  .routed = !unrouted,
                  .has_local = local,
                  .divide = static_cast<ops::Divide>(shape("divide")),
                  .divisor = 3,
                  .out = out_->view()};
}

std::vector<Expected> Combine::reference() const {
    const Array a = a_->values(), slots = slots_->values(), valid = valid_->values(),
                local = local_->values(), null_token = null_token_->values(), mask = mask_->values();
    const int64_t c = a.extents[0], n = mask.extents[0], e = a.extents[2];
    Expected out{Array(out_->extents()), Array(out_->extents())};
    for (int64_t b = 0; b < mask.extents[1]; b++) {
        for (int64_t i = 0; i < n; i++) {
            double count = arguments_.has_local ? 1 : 0;
            std::vector<double> sum(c), magnitude(c);
            for (int64_t expert = 0; expert < e; expert++) {
                const int64_t slot = arguments_.routed ? static_cast<int64_t>(slots(i, expert, b)) : i;
                for (int64_t channel = 0; channel < c && slot >= 0; channel++) {
                    sum[channel] += a(channel, slot, expert, b);
                    magnitude[channel] += std::fabs(a(channel, slot, expert, b));
                }
                count += slot >= 0 && (!arguments_.routed || valid(slot, expert, b) != 0) ? 1 : 0;
            }
            const double divisor =
                arguments_.divide == ops::Divide::count
                    ? std::max(count, 1e-5)
                    : (arguments_.divide == ops::Divide::constant ? arguments_.divisor : 1);
            for (int64_t channel = 0; channel < c; channel++) {
                const double near = arguments_.has_local ? local(channel, i, b) : 0;
                double value = (sum[channel] + near) / divisor,
                       bound = (static_cast<double>(e) + 2) * kRoundoff *
                               (magnitude[channel] + std::fabs(near)) / divisor;
                if (arguments_.routed && !arguments_.has_local && count == 0) {
                    value = null_token(channel);
                    bound = 0;
                }
                value = mask(i, b) == 0 ? 0 : value;
                out.value(channel, i, b) = value;
                out.bound(channel, i, b) =
                    mask(i, b) == 0 ? 0 : bound + rounding_of(dtype(), value) * 1.01;
            }
        }
    }
    return {out};
}

}  // namespace

const Workload &combine_workload() {
    static const Workload workload(
        "combine", false,
        {{"b", 1, 0, 1 << 20, "batch"},
         {"e", 2, 1, 4096, "experts"},
         {"n", 64, 0, 1 << 24, "positions"},
         {"m", 16, 0, 1 << 24, "routed slots, at most n"},
         {"c", 64, 1, 1 << 20, "channels"},
         {"unrouted", 0, 0, 1, "every position has a slot of its own"},
         {"local", 0, 0, 1, "a local branch"},
         {"divide", 0, 0, 2, "0 sums, 1 divided by counts, 2 divided by 3"},
         {"mask", 0, 0, 5, kMaskMeaning},
         {"nan", 0, 0, 1, "NaN in every fifth slot"},
         {"pad", 0, 0, 1 << 20, "unused elements after every row"},
         {"shift", 0, 0, 63, "elements that tensors are off a 64-byte boundary"},
         {"exact", 0, 0, 1, "small integers"}},
        {.smoke = {"n100_m40_c48_b2"},
         .regular = {"n256_m100_c512_e4_local", "n256_m100_c512_e2_mask1",
                     "n256_m200_c256_e4_local_divide1_mask1", "n200_m50_c64_e2_divide1",
                     "n128_c256_e2_unrouted_local_divide2"},
         .irregular = {"n1_m1_c1_e1", "n1_m0_c1", "n2_m1_c3_e5_divide1_nan",
                       "n17_m16_c13_e3_b2_mask1_nan_divide1", "n31_m7_c127_e3_local_mask1_nan_divide2_pad3",
                       "n33_m33_c17_e2_exact_shift1", "n45_m20_c31_mask2_nan",
                       "n45_m20_c65_b3_mask3_divide1_nan_pad1", "n19_c5_e3_unrouted_mask1_nan_divide1",
                       "n19_c96_e1_unrouted", "n19_c33_e4_unrouted_divide2_nan_pad7_shift3",
                       "n64_m1_c1000_e7_divide2", "n23_m9_c700_e2_local_divide1_mask4", "n0_m0_c8",
                       "n8_m2_c8_b0", "n50_m0_c40_mask1"},
         .options = {{"n41_m20_c70_e3_b2"},
                     {"", "unrouted"},
                     {"", "local"},
                     {"", "divide1", "divide2"},
                     {"", "mask1", "mask2", "mask3"},
                     {"", "nan"},
                     {"", "pad1"}},
         .not_finite = {{{"n41_m20_c70_e3_b2"}, {"", "unrouted"}, {"", "local", "divide1"}, {"mask1"}, {"bad1"}, {"", "as1", "as3"}, {"at100", "at430"}},
                        {{"n41_m20_c70_e3_b2_mask1"}, {"local_bad4", "bad5", "unrouted_local_divide2_bad4"}, {"", "as1", "as3"}, {"at100", "at200", "at430"}}},
         .perf = {"n4096_m1024_c512_e4_local", "n8192_m4096_c512_e2", "n4096_c512_e1_unrouted"}},
        [](const Shape &shape, DType dtype, uint64_t seed) -> std::unique_ptr<Instance> {
            return std::make_unique<Combine>(shape, dtype, seed);
        });
    return workload;
}

}  // namespace moa::workloads
