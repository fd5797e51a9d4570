#include "workloads/coordinate_descent.h"

namespace moa::workloads {

namespace {

using namespace descent;

class CoordinateDescentStep : public Base<ops::CoordinateDescentStep> {
public:
    CoordinateDescentStep(const Shape &shape, DType, uint64_t seed)
        : Base(shape, seed),
          a_in_(input("a_in", DType::f32, normal_array(random(), {shape("r"), shape("b")}), inputs_.layout)),
          a_out_(output("a_out", DType::f32, {shape("r"), shape("b")}, inputs_.layout)) {
        arguments_.a_in = a_in_.view();
        arguments_.first = shape.has("first");
        arguments_.log_k = static_cast<float>(log_k_of(shape));
        arguments_.eps = static_cast<float>(shape("eps")) / 1000;
        arguments_.a_out = a_out_.view();
    }

    double flops() const override {
        return 5 * elements();
    }

protected:
    std::vector<Expected> reference() const override {
        const Array scores = scores_.values(), mask = mask_.values(), a_in = a_in_.values();
        Expected a{Array(a_in.extents), Array(a_in.extents)};
        for_rows(scores, mask, [&](const Row &row, int64_t router, int64_t batch) {
            std::vector<double> b(row.n);
            for (int64_t i = 0; i < row.n; i++) {
                b[i] =
                    arguments_.first ? -row.scores[i] : -std::max(row.scores[i] + a_in(router, batch), 0.0);
            }
            double &value = a.value(router, batch);
            value = iterate(row, arguments_.log_k, arguments_.eps, b);
            const double previous = std::max(std::fabs(a_in(router, batch)), std::fabs(value));
            a.bound(router, batch) =
                row.empty() ? kOpen : a_error(row, previous, arguments_.log_k, arguments_.eps, 2);
        });
        return {a};
    }

private:
    Tensor &a_in_, &a_out_;
};

class CoordinateDescentFinish : public Base<ops::CoordinateDescentFinish> {
public:
    CoordinateDescentFinish(const Shape &shape, DType, uint64_t seed)
        : Base(shape, seed), a_(input("a", DType::f32, a_values(shape), inputs_.layout)),
          y_(output("y", DType::f32, scores_.extents(), inputs_.layout)) {
        arguments_.a = a_.view();
        arguments_.eps = static_cast<float>(shape("eps")) / 1000;
        arguments_.y = y_.view();
    }

    double flops() const override {
        return 5 * elements();
    }

protected:
    std::vector<Expected> reference() const override {
        const Array scores = scores_.values(), mask = mask_.values(), a = a_.values();
        Expected y{Array(scores.extents), Array(scores.extents)};
        for_rows(scores, mask, [&](const Row &row, int64_t router, int64_t batch) {
            finish(row, a(router, batch), 0, arguments_.eps, y.value.at(0, router, batch),
                   y.bound.at(0, router, batch));
        });
        return {y};
    }

private:
    // A row without a valid position comes here with whatever a became: infinite, or NaN.
    Array a_values(const Shape &shape) {
        Array a = normal_array(random(), {shape("r"), shape("b")});
        for (int64_t batch = 0; batch < shape("b"); batch++) {
            const Row row{nullptr, valid_.at(0, batch), shape("n")};
            for (int64_t router = 0; router < shape("r") && row.empty(); router++) {
                a(router, batch) = kHidden[router % 2];
            }
        }
        return a;
    }

    Tensor &a_, &y_;
};

}  // namespace

const Workload &coordinate_descent_step_workload() {
    static const Workload workload(
        "coordinate_descent_step", true,
        keys_with({kTokens,
                   {"first", 0, 0, 1, "the first iteration: a_in is not read"},
                   {"eps", 30, 1, 100000, "in thousandths"}}),
        {.smoke = {"n200_k16_r2_b2"},
         .regular = {"n1024_k128_r2_b2_first_eps4000", "n1024_k16_spread220",
                     "n4096_k1024_eps700_spread220_mask1"},
         .irregular = {"n1_k1", "n1_k1_first", "n3_k7_spread50", "n17_k4_r3_b2_mask1_nan",
                       "n17_k4_r3_b2_mask1_nan_first", "n63_k8_b3_mask2_nan", "n65_k64_b3_r2_mask3_nan",
                       "n127_k16_mask4", "n129_k16_spread220_pad5_shift1", "n100_k10_spread0", "n8_k1_b0"},
         .options = {{"n70_r2_b3"},
                     {"k7", "k64"},
                     {"", "first"},
                     {"", "mask1", "mask2", "mask3", "mask4", "mask5"},
                     {"", "nan"},
                     {"eps1000", "eps30_spread100"}},
         .not_finite = {{{"n70_r2_b3"}, {"", "first"}, {"", "mask1"}, {"bad1", "bad3"}, {"", "as1", "as2", "as3"}, {"at100", "at430"}}, {{"huge_n70_r2_b3"}, {"", "mask1"}}},
         .perf = {"n32768_k4096_b8"}},
        build<CoordinateDescentStep>);
    return workload;
}

const Workload &coordinate_descent_finish_workload() {
    static const Workload workload(
        "coordinate_descent_finish", true, keys_with({{"eps", 30, 1, 100000, "in thousandths"}}),
        {.smoke = {"n200_r2_b2_eps500"},
         .regular = {"n1024_r2_b2_eps4000", "n1024_spread220", "n4096_eps700_spread220_mask1"},
         .irregular = {"n1", "n3_spread50", "n17_r3_b2_mask1_nan", "n63_b3_r2_mask2_nan",
                       "n65_b3_r2_mask3_nan", "n127_mask4", "n129_spread220_pad5_shift1", "n0", "n8_b0"},
         .options = {{"n70_r2_b3"},
                     {"", "mask1", "mask2", "mask3", "mask4", "mask5"},
                     {"", "nan"},
                     {"eps1000", "eps30_spread100"}},
         .not_finite = {{{"n70_r2_b3"}, {"", "mask1"}, {"bad1", "bad3"}, {"", "as1", "as2", "as3"}, {"at100", "at430"}}},
         .perf = {"n32768_b8"}},
        build<CoordinateDescentFinish>);
    return workload;
}

}  // namespace moa::workloads
