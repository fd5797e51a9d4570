#include "workloads/data.h"
#include "workloads/workload.h"

#include <algorithm>
#include <numeric>

namespace moa::workloads {

namespace {

class SelectSlots : public OpInstance<ops::SelectSlots> {
public:
    SelectSlots(const Shape &shape, DType, uint64_t seed)
        : OpInstance(DType::f32, seed), layout_{.pad = shape("pad"), .shift = shape("shift")},
          similarities_(input("scores", DType::f32, similarities_of(shape), layout_)),
          mask_(input("mask", DType::u8,
                      mask_array(random(), {shape("n"), shape("b")}, static_cast<Mask>(shape("mask"))),
                      layout_, shape.has("mask") ? 0 : 3)),
          indices_(output("indices", DType::i32, {shape("k"), shape("r"), shape("b")}, layout_)),
          scores_(output("routing_scores", DType::f32, indices_.extents(), layout_)),
          valid_(output("valid", DType::u8, indices_.extents(), layout_)),
          slots_(output("slots", DType::i32, similarities_.extents(), layout_)),
          rows_(output("rows", DType::i32, indices_.extents(), layout_)) {
        if (shape("k") > shape("n")) {
            throw ShapeError("k exceeds n: nothing is selected then");
        }
        arguments_ = {.scores = similarities_.view(),
                      .mask = mask_.view(),
                      .source_div = static_cast<int32_t>(shape("div")),
                      .indices = indices_.view(),
                      .routing_scores = scores_.view(),
                      .valid = valid_.view(),
                      .slots = slots_.view(),
                      .rows = rows_.view()};
    }

    double flops() const override {
        return static_cast<double>(elements_of(similarities_.extents()));
    }

protected:
    std::vector<Expected> reference() const override {
        const Array similarities = similarities_.values(), mask = mask_.values();
        const int64_t n = similarities.extents[0], slots_wanted = indices_.extents()[0];
        Expected indices{Array(indices_.extents()), Array(indices_.extents())}, scores = indices, valid = indices, rows = indices;
        Expected slots{Array(similarities.extents, -1), Array(similarities.extents)};
        std::vector<int64_t> order(n);
        for (int64_t b = 0; b < similarities.extents[2]; b++) {
            const int64_t source = b / arguments_.source_div;
            for (int64_t r = 0; r < similarities.extents[1]; r++) {
                const double *s = similarities.at(0, r, b), *kept = mask.at(0, b);
                std::iota(order.begin(), order.end(), 0);
                // 2: a score, 1: NaN, 0: masked
                const auto rank = [&](int64_t i) { return kept[i] == 0 ? 0 : (std::isnan(s[i]) ? 1 : 2); };
                std::stable_sort(order.begin(), order.end(), [&](int64_t i, int64_t j) {
                    return rank(i) != rank(j) ? rank(i) > rank(j) : rank(i) == 2 && s[i] > s[j];
                });
                std::sort(order.begin(), order.begin() + slots_wanted);
                for (int64_t k = 0; k < slots_wanted; k++) {
                    const int64_t position = order[k];
                    indices.value(k, r, b) = static_cast<double>(position);
                    scores.value(k, r, b) = mask(position, b) == 0 ? 0 : 1;
                    valid.value(k, r, b) = mask(position, source);
                    slots.value(position, r, b) = static_cast<double>(k);
                    rows.value(k, r, b) = static_cast<double>(source * n + position);
                }
            }
        }
        return {indices, scores, valid, slots, rows};
    }

private:
    Array similarities_of(const Shape &shape) {
        Array result = normal_array(random(), {shape("n"), shape("r"), shape("b")});
        for (double &value : result.data) {
            if (shape.has("levels")) {  // that many different scores
                const int64_t levels = shape("levels"), half = levels / 2;
                value = static_cast<double>(random().below(levels) - half) / 4;
            }
            if (shape.has("special")) {
                constexpr double kValues[] = {kNan, -kNan, kInfinity, -kInfinity, 0.0, -0.0, 0x1p-149, -0x1p-149};
                const int64_t drawn = random().below(16);
                value = drawn < 8 ? kValues[drawn] : value;
            }
        }
        return result;
    }

    Layout layout_;
    Tensor &similarities_, &mask_, &indices_, &scores_, &valid_, &slots_, &rows_;
};

}  // namespace

const Workload &select_slots_workload() {
    static const Workload workload(
        "select_slots", true,
        {{"b", 1, 0, 1 << 20, "batch"},
         {"r", 1, 1, 4096, "routers"},
         {"n", 64, 1, 1 << 24, "positions"},
         {"k", 16, 0, 1 << 24, "tokens to select, at most n"},
         {"div", 1, 1, 4096, "batch row b takes its tokens from row b / div"},
         {"levels", 0, 0, 1 << 24, "number of different scores, so ties; 0: all differ"},
         {"special", 0, 0, 1, "NaN, infinities, zeros of both signs, denormal scores"},
         {"mask", 0, 0, 5, kMaskMeaning},
         {"pad", 0, 0, 1 << 20, "unused elements after every row"},
         {"shift", 0, 0, 63, "elements that tensors are off a 64-byte boundary"}},
        {.smoke = {"n200_k16_r2_b2"},
         .regular = {"n1024_k128_r2_b2", "n4096_k1024_levels100_mask1", "n4096_k4095", "n32768_k4096_b2", "n512_k300_r4_b4_div4_mask1"},
         .irregular = {"n1_k1", "n2_k1_levels1", "n5_k5_mask1", "n17_k4_r3_b2_mask1_special", "n257_k200_mask1_special_pad3", "n257_k200_mask1_special_shift1",
                       "n63_k8_b3_mask2", "n65_k33_b3_r2_mask3", "n127_k16_mask4", "n100_k10_levels1", "n1009_k1008_levels2", "n31_k5_b5_r3_div3_mask1_pad1",
                       "n32767_k32766_levels5", "n31000_k7_levels3_mask1", "n33_k33", "n8_k0", "n8_k1_b0"},
         .options = {{"n83_r2_b4"}, {"k1", "k40", "k83"}, {"", "div2", "div4"}, {"", "mask1", "mask2", "mask3", "mask4", "mask5"}, {"", "special"}},
         .not_finite = {{{"n83_r2_b4_k40_bad1"}, {"", "mask1"}, {"", "as1", "as2", "as3"}, {"at100", "at430"}}},
         .perf = {"n4096_k1024_r8", "n32768_k4096_b8"},
         .edges = {"n32768_k4097_levels1000_mask1"}},
        [](const Shape &shape, DType dtype, uint64_t seed) -> std::unique_ptr<Instance> {
            return std::make_unique<SelectSlots>(shape, dtype, seed);
        });
    return workload;
}

}  // namespace moa::workloads
