#include "workloads/data.h"
#include "workloads/workload.h"

#include <numeric>
#include <utility>

namespace moa::workloads {

namespace {

// Distinct positions in a random order.
Array routes(Random &random, int64_t n, const Extents &extents) {
    if (extents[0] > n) {
        throw ShapeError("k exceeds n: routed positions are distinct");
    }
    Array result(extents);
    std::vector<int64_t> positions(n);
    std::iota(positions.begin(), positions.end(), 0);
    for (int64_t row = 0; row < extents[1] * extents[2]; row++) {
        for (int64_t slot = 0; slot < extents[0]; slot++) {
            std::swap(positions[slot], positions[slot + random.below(n - slot)]);
            result.data[row * extents[0] + slot] = static_cast<double>(positions[slot]);
        }
    }
    return result;
}

Array soft_scores(Random &random, const Extents &extents) {
    Array result(extents);
    for (double &value : result.data) {
        value = random.chance(0.2) ? 1 : random.uniform();
    }
    return result;
}

class RouteSlots : public OpInstance<ops::RouteSlots> {
public:
    RouteSlots(const Shape &shape, DType, uint64_t seed)
        : OpInstance(DType::f32, seed), layout_{.pad = shape("pad"), .shift = shape("shift")},
          indices_(input("indices", DType::i32,
                         routes(random(), shape("n"), {shape("k"), shape("r"), shape("b")}), layout_)),
          mask_(input("mask", DType::u8,
                      mask_array(random(), {shape("n"), shape("b")}, static_cast<Mask>(shape("mask"))),
                      layout_, shape.has("mask") ? 0 : 3)),
          y_(input("y", DType::f32,
                   shape.has("soft") ? soft_scores(random(), {shape("n"), shape("r"), shape("b")}) : Array({shape("n"), shape("r"), shape("b")}),
                   layout_, shape.has("soft") ? 0 : 7)),
          scores_(output("scores", DType::f32, indices_.extents(), layout_)),
          valid_(output("valid", DType::u8, indices_.extents(), layout_)),
          slots_(output("slots", DType::i32, y_.extents(), layout_)),
          rows_(output("rows", DType::i32, indices_.extents(), layout_)) {
        const auto divisor = static_cast<int32_t>(shape("div"));
        arguments_ = {.indices = indices_.view(),
                      .mask = mask_.view(),
                      .y = y_.view(),
                      .soft = shape.has("soft"),
                      .source_div = divisor,
                      .scores = scores_.view(),
                      .valid = valid_.view(),
                      .slots = slots_.view(),
                      .rows = rows_.view()};
    }

    double flops() const override {
        return static_cast<double>(elements_of(indices_.extents()));
    }

protected:
    std::vector<Expected> reference() const override {
        const Array indices = indices_.values(), mask = mask_.values(), y = y_.values();
        const int64_t n = y.extents[0];
        Expected scores{Array(indices.extents), Array(indices.extents)}, valid = scores, rows = scores;
        Expected slots{Array(y.extents, -1), Array(y.extents)};
        for (int64_t b = 0; b < indices.extents[2]; b++) {
            const int64_t source = b / arguments_.source_div;
            for (int64_t r = 0; r < indices.extents[1]; r++) {
                for (int64_t k = 0; k < indices.extents[0]; k++) {
                    const auto position = static_cast<int64_t>(indices(k, r, b));
                    scores.value(k, r, b) =
                        mask(position, b) == 0 ? 0 : (arguments_.soft ? y(position, r, b) : 1);
                    valid.value(k, r, b) = mask(position, source);
                    slots.value(position, r, b) = static_cast<double>(k);
                    rows.value(k, r, b) = static_cast<double>(source * n + position);
                }
            }
        }
        return {scores, valid, slots, rows};
    }

private:
    Layout layout_;
    Tensor &indices_, &mask_, &y_, &scores_, &valid_, &slots_, &rows_;
};

}  // namespace

const Workload &route_slots_workload() {
    static const Workload workload(
        "route_slots", true,
        {{"b", 1, 0, 1 << 20, "batch"},
         {"r", 1, 1, 4096, "routers"},
         {"n", 64, 1, 1 << 24, "positions"},
         {"k", 16, 0, 1 << 24, "routed slots, at most n"},
         {"soft", 0, 0, 1, "scores are those of coordinate descent"},
         {"div", 1, 1, 4096, "batch row b takes its tokens from row b / div"},
         {"mask", 0, 0, 5, kMaskMeaning},
         {"pad", 0, 0, 1 << 20, "unused elements after every row"},
         {"shift", 0, 0, 63, "elements that tensors are off a 64-byte boundary"}},
        {.smoke = {"n200_k100_r2_b2_soft"},
         .regular = {"n1024_k512_r2_b2", "n1024_k512_r2_b2_soft_mask1", "n512_k300_r4_b4_div4_mask1"},
         .irregular = {"n1_k1", "n1_k1_soft", "n17_k9_r3_b2_mask1_soft", "n65_k65_b3_r2_mask3_pad3",
                       "n127_k126_mask4_soft_shift1", "n63_k40_b3_mask2_soft",
                       "n31_k5_b5_r3_div3_soft_mask1_pad1", "n8_k0", "n8_k1_b0"},
         .options = {{"n61_k30_r2_b4"},
                     {"", "soft"},
                     {"", "div2", "div4"},
                     {"", "mask1", "mask2", "mask3", "mask4"},
                     {"", "pad3"}},
         .not_finite = {{{"n61_k60_r2_b4_soft"}, {"", "mask1"}, {"bad3"}, {"", "as1", "as3"}, {"at100", "at430"}}},
         .perf = {"n4096_k1024_r8", "n32768_k4096_b8"}},
        [](const Shape &shape, DType dtype, uint64_t seed) -> std::unique_ptr<Instance> {
            return std::make_unique<RouteSlots>(shape, dtype, seed);
        });
    return workload;
}

}  // namespace moa::workloads
