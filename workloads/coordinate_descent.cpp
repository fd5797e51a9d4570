#include "workloads/coordinate_descent.h"

namespace moa::workloads {

namespace {

using namespace descent;

constexpr double kEps = 0.03, kEpsInit = 4, kEpsDecay = 0.7;

class CoordinateDescent : public Base<ops::CoordinateDescent> {
public:
    CoordinateDescent(const Shape &shape, DType, uint64_t seed)
        : Base(shape, seed), huge_(shape.has("huge")), eps_(input("eps", DType::f32, schedule(shape("iters"), huge_))),
          y_(output("y", DType::f32, scores_.extents(), inputs_.layout)) {
        arguments_.log_k = static_cast<float>(log_k_of(shape));
        arguments_.eps = eps_.view();
        arguments_.y = y_.view();
    }

    // Per iteration: add, minimum, product, exponential, sum.
    double flops() const override {
        return 5 * elements() * static_cast<double>(eps_.extents()[0]);
    }

protected:
    std::vector<Expected> reference() const override {
        const Array scores = scores_.values(), mask = mask_.values(), eps = eps_.values();
        Expected y{Array(scores.extents), Array(scores.extents)};
        const int64_t iterations = eps.extents[0] - 1;
        for_rows(scores, mask, [&](const Row &row, int64_t router, int64_t batch) {
            std::vector<double> b(row.n);
            for (int64_t i = 0; i < row.n; i++) {
                b[i] = -row.scores[i];
            }
            double a = 0;
            for (int64_t t = 0; t < iterations; t++) {
                a = iterate(row, arguments_.log_k, eps(t), b);
            }
            const double bound = a_error(row, a, arguments_.log_k, eps(0), iterations);
            finish(row, a, bound, eps(iterations), y.value.at(0, router, batch), y.bound.at(0, router, batch));
            if (huge_) {
                std::fill_n(y.bound.at(0, router, batch), row.n, 1e-6);
            }
        });
        return {y};
    }

private:
    // With huge scores a power of two: their differences are exact then, and the relaxation takes the larger ones whole.
    static Array schedule(int64_t iterations, bool huge) {
        Array result({iterations + 1}, 0.25);
        if (huge) {
            return result;
        }
        double eps = kEpsInit;
        for (double &entry : result.data) {
            entry = eps;
            eps = std::max(eps * kEpsDecay, kEps);
        }
        return result;
    }

    bool huge_;
    Tensor &eps_, &y_;
};

}  // namespace

const Workload &coordinate_descent_workload() {
    static const Workload workload(
        "coordinate_descent", true, keys_with({kTokens, {"iters", 20, 1, 1000, "iterations"}}),
        {.smoke = {"n200_k16_r2_b2"},
         .regular = {"n1024_k128_r2_b2", "n1024_k16_spread220", "n4096_k1024_spread220_mask1"},
         .irregular = {"n1_k1", "n2_k1", "n3_k7_spread50", "n17_k4_r3_b2_mask1_nan", "n63_k8_b3_mask2_nan",
                       "n65_k64_b3_r2_mask3_nan", "n127_k16_mask4", "n129_k16_spread220_pad5_shift1",
                       "n1009_k100_r2_b2_mask5_spread100", "n100_k10_spread0", "n0_k1", "n8_k1_b0"},
         .options = {{"n70_r2_b3"},
                     {"k7", "k64"},
                     {"", "mask1", "mask2", "mask3", "mask4", "mask5"},
                     {"", "nan"},
                     {"", "spread100"}},
         .not_finite = {{{"n70_r2_b3"}, {"", "mask1"}, {"bad1"}, {"", "as1", "as2", "as3"}, {"at100", "at430", "at700"}}, {{"huge_n70_r2_b3"}, {"", "mask1"}}},
         .perf = {"n4096_k512_b8", "n32768_k4096_b8", "n4096_k1024_r8"},
         .edges = {"n32768_k4095_spread220_mask1", "n32769_k4096"}},
        build<CoordinateDescent>);
    return workload;
}

}  // namespace moa::workloads
