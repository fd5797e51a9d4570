#include "workloads/data.h"
#include "workloads/workload.h"

#include <algorithm>
#include <numeric>

namespace moa::workloads {

namespace {

class SelectTokens : public Instance {
public:
    SelectTokens(const Shape &shape, DType, uint64_t seed)
        : Instance(DType::f32, seed), layout_{.pad = shape("pad"), .shift = shape("shift")},
          by_rank_(shape.has("rank")), scores_(input("scores", DType::f32, scores_of(shape), layout_)),
          mask_(input("mask", DType::u8,
                      mask_array(random(), {shape("n"), shape("b")}, static_cast<Mask>(shape("mask"))),
                      layout_, shape.has("mask") ? 0 : 3)),
          indices_(output("indices", DType::i32, {shape("k"), shape("r"), shape("b")}, layout_)) {
        if (shape("k") > shape("n")) {
            throw ShapeError("k exceeds n: nothing is selected then");
        }
        arguments_ = {.scores = scores_.view(),
                      .mask = mask_.view(),
                      .k = static_cast<int32_t>(shape("k")),
                      .offset = static_cast<int32_t>(shape("offset")),
                      .indices = indices_.view()};
    }

    Problem problem() const override {
        return ops::problem(arguments_, by_rank_);
    }
    Status run(Run &run, const Row &row) override {
        return ops::run(run, row, arguments_);
    }
    size_t scratch_bytes(const Row &row) const override {
        return ops::scratch_bytes(row, arguments_);
    }
    // Comparisons of a position with the threshold: one is the least.
    double flops() const override {
        return static_cast<double>(elements_of(scores_.extents()));
    }

protected:
    std::vector<Expected> reference() const override {
        const Array scores = scores_.values(), mask = mask_.values();
        const int64_t n = scores.extents[0], k = arguments_.k;
        Expected indices{Array(indices_.extents()), Array(indices_.extents())};
        std::vector<int64_t> order(n);
        for (int64_t batch = 0; batch < scores.extents[2]; batch++) {
            for (int64_t router = 0; router < scores.extents[1]; router++) {
                const double *s = scores.at(0, router, batch), *valid = mask.at(0, batch);
                std::iota(order.begin(), order.end(), 0);
                // 2: a score, 1: NaN, 0: masked
                const auto rank = [&](int64_t i) { return valid[i] == 0 ? 0 : (std::isnan(s[i]) ? 1 : 2); };
                std::partial_sort(order.begin(), order.begin() + k, order.end(), [&](int64_t i, int64_t j) {
                    if (rank(i) != rank(j)) {
                        return rank(i) > rank(j);
                    }
                    if (rank(i) == 2 && s[i] != s[j]) {
                        return s[i] > s[j];
                    }
                    return i < j;
                });
                if (!by_rank_) {
                    std::sort(order.begin(), order.begin() + k);
                }
                for (int64_t slot = 0; slot < k; slot++) {
                    indices.value(slot, router, batch) = static_cast<double>(order[slot] + arguments_.offset);
                }
            }
        }
        return {indices};
    }

private:
    Array scores_of(const Shape &shape) {
        Array scores = normal_array(random(), {shape("n"), shape("r"), shape("b")});
        for (double &score : scores.data) {
            if (shape.has("levels")) {  // that many different scores, zeros of both signs among them
                const int64_t levels = shape("levels"), level = random().below(levels) - levels / 2;
                score = static_cast<double>(level) / 4;
                score = score == 0 && random().chance(0.5) ? -0.0 : score;
            }
            if (shape.has("special")) {
                constexpr double kValues[] = {kNan, -kNan, kInfinity, -kInfinity, 0.0, -0.0,
                                              0x1p-149, -0x1p-149, 3.4e38, -3.4e38, -1e30, -1.1e30};
                const int64_t drawn = random().below(24);
                score = drawn < 12 ? kValues[drawn] : score;
            }
        }
        return scores;
    }

    Layout layout_;
    bool by_rank_;
    ops::SelectTokens arguments_;
    Tensor &scores_, &mask_, &indices_;
};

}  // namespace

const Workload &select_tokens_workload() {
    static const Workload workload(
        "select_tokens", true,
        {{"b", 1, 0, 1 << 20, "batch"},
         {"r", 1, 1, 4096, "routers"},
         {"n", 64, 0, 1 << 24, "positions"},
         {"k", 16, 0, 1 << 24, "tokens to select, at most n"},
         {"rank", 0, 0, 1, "order of the result: 0 by position, 1 by rank"},
         {"offset", 0, 0, 1 << 24, "added to every index"},
         {"levels", 0, 0, 1 << 24, "number of different scores, so ties; 0: all differ"},
         {"special", 0, 0, 1, "NaN, infinities, zeros of both signs, denormal and huge scores"},
         {"mask", 0, 0, 5, kMaskMeaning},
         {"pad", 0, 0, 1 << 20, "unused elements after every row"},
         {"shift", 0, 0, 63, "elements that tensors are off a 64-byte boundary"}},
        {.smoke = {"n200_k16_r2_b2", "n200_k16_r2_b2_rank"},
         .regular = {"n1024_k128_r2_b2", "n1024_k128_r2_b2_rank", "n4096_k1024_levels100_mask1",
                     "n4096_k1024_levels100_mask1_rank", "n4096_k4095", "n1048576_k65536_levels100000",
                     "n1048576_k1000_rank"},
         .irregular = {"n1_k1",
                       "n1_k1_rank",
                       "n2_k1_levels1",
                       "n5_k5_rank",
                       "n5_k5_mask1",
                       "n64_k64_rank_levels3",
                       "n17_k4_r3_b2_mask1_special",
                       "n17_k4_r3_b2_mask1_special_rank",
                       "n257_k200_mask1_special_rank_pad3",
                       "n257_k200_mask1_special_shift1",
                       "n63_k8_b3_mask2",
                       "n63_k8_b3_mask2_rank",
                       "n65_k33_b3_r2_mask3_rank",
                       "n65_k33_b9_r40_rank",
                       "n65_k33_b3_r2_mask3_offset1000",
                       "n127_k16_mask4",
                       "n127_k16_mask4_rank",
                       "n100_k10_levels1",
                       "n100_k10_levels1_rank",
                       "n999_k500_levels2_rank_offset7",
                       "n1009_k1008_levels2",
                       "n70000_k69999_levels5_rank",
                       "n33_k1_special",
                       "n255_k255_special_rank",
                       "n8_k0",
                       "n8_k1_b0"},
         .options = {{"n83_r2_b3"},
                     {"k1", "k40", "k83"},
                     {"", "rank"},
                     {"", "mask1", "mask2", "mask3", "mask4", "mask5"},
                     {"", "levels4"},
                     {"", "special"}},
         .not_finite = {{{"n83_r2_b3_k40_bad1"}, {"", "mask1", "rank"}, {"", "as1", "as2", "as3"}, {"at100", "at430"}}},
         .perf = {"n4096_k512_b8", "n32768_k4096_b8", "n4096_k1024_r8", "n8192_k4096_r4",
                  "n4096_k512_b8_rank", "n32768_k4096_b8_rank"},
         .edges = {"n32768_k4097_levels1000_mask1", "n32768_k33_rank_special", "n32769_k4097_levels1000", "n32769_k33_rank_mask1"}},
        [](const Shape &shape, DType dtype, uint64_t seed) -> std::unique_ptr<Instance> {
            return std::make_unique<SelectTokens>(shape, dtype, seed);
        });
    return workload;
}

}  // namespace moa::workloads
