#include "workloads/data.h"
#include "workloads/workload.h"

namespace moa::workloads {

namespace {

class RotaryTable : public OpInstance<ops::RotaryTable> {
public:
    RotaryTable(const Shape &shape, DType, uint64_t seed)
        : OpInstance(DType::f32, seed), layout_{.pad = shape("pad"), .shift = shape("shift")},
          angles_(input("angles", DType::f32, angles_of(shape), layout_)),
          cosines_(output("cosines", DType::f32, angles_.extents(), layout_)),
          sines_(output("sines", DType::f32, angles_.extents(), layout_)) {
        arguments_ = {.angles = angles_.view(), .cosines = cosines_.view(), .sines = sines_.view()};
    }

    // Range reduction and two polynomials.
    double flops() const override {
        return 20.0 * static_cast<double>(elements_of(angles_.extents()));
    }

protected:
    std::vector<Expected> reference() const override {
        constexpr double kError = 2e-7;  // absolute: values are at most 1
        const Array angles = angles_.values();
        Expected cosines{Array(angles.extents), Array(angles.extents, kError)}, sines = cosines;
        for (size_t i = 0; i < angles.data.size(); i++) {
            cosines.value.data[i] = std::cos(angles.data[i]);
            sines.value.data[i] = std::sin(angles.data[i]);
        }
        return {cosines, sines};
    }

private:
    // Angles of positions up to 2^magnitude, multiples of pi/4 and their neighbours among them.
    Array angles_of(const Shape &shape) {
        Array angles({shape("d"), shape("n")});
        const double most = std::ldexp(1, static_cast<int>(shape("magnitude")));
        for (size_t i = 0; i < angles.data.size(); i++) {
            const double drawn =
                std::exp2(20 * random().uniform() - 20) * most * (random().chance(0.5) ? 1 : -1);
            angles.data[i] =
                i % 3 == 0 ? std::round(drawn / 0.78539816339744831) * 0.78539816339744831 : drawn;
        }
        if (!angles.data.empty()) {
            angles.data.back() = most;
            angles.data.front() = 0;
        }
        return angles;
    }

    Layout layout_;
    Tensor &angles_, &cosines_, &sines_;
};

}  // namespace

const Workload &rotary_table_workload() {
    static const Workload workload(
        "rotary_table", true,
        {{"d", 64, 1, 1 << 16, "channels of a head"},
         {"n", 64, 0, 1 << 24, "positions"},
         {"magnitude", 12, 0, 20, "largest angle, as a power of two"},
         {"pad", 0, 0, 1 << 20, "unused elements after every row"},
         {"shift", 0, 0, 63, "elements that tensors are off a 64-byte boundary"}},
        {.smoke = {"d32_n70"},
         .regular = {"d64_n1000_magnitude0", "d64_n1000_magnitude12", "d128_n1000_magnitude20"},
         .irregular = {"d1_n1", "d2_n1", "d6_n17_pad3", "d10_n33_magnitude20_shift1", "d254_n31_magnitude16",
                       "d8_n0"},
         .options = {{"d34_n19"}, {"magnitude4", "magnitude18"}, {"", "pad1"}, {"", "shift1"}},
         .not_finite = {{{"d34_n19_bad1"}, {"", "as1", "as2", "as3"}, {"at100", "at430"}}},
         .perf = {"d64_n8192"}},
        [](const Shape &shape, DType, uint64_t seed) -> std::unique_ptr<Instance> {
            return std::make_unique<RotaryTable>(shape, DType::f32, seed);
        });
    return workload;
}

}  // namespace moa::workloads
