#include "workloads/data.h"
#include "workloads/workload.h"

#include <algorithm>

namespace moa::workloads {

namespace {

class CopyIndices : public OpInstance<ops::CopyIndices> {
public:
    CopyIndices(const Shape &shape, DType, uint64_t seed)
        : OpInstance(DType::f32, seed), narrow_(shape.has("narrow")), limit_(shape("limit")),
          layout_{.pad = shape("pad"), .shift = shape("shift")},
          in_(input("in", narrow_ ? DType::i64 : DType::i32, indices({shape("k"), shape("r"), shape("b")}), layout_)),
          out_(output("out", narrow_ ? DType::i32 : DType::i64, in_.extents(), layout_)) {
        arguments_ = {.in = in_.view(), .out = out_.view(), .limit = static_cast<int32_t>(limit_)};
    }

    double flops() const override {
        return static_cast<double>(elements_of(out_.extents()));
    }

protected:
    std::vector<Expected> reference() const override {
        Expected out{in_.values(), Array(in_.extents())};
        for (double &index : out.value.data) {
            index = narrow_ ? std::clamp(index, 0.0, static_cast<double>(limit_ - 1)) : index;
        }
        return {out};
    }

private:
    // Of those to be narrowed some are out of range, far out too.
    Array indices(const Extents &extents) {
        Array result(extents);
        for (double &index : result.data) {
            index = static_cast<double>(random().below(limit_));
            if (narrow_ && random().chance(0.2)) {
                index = random().chance(0.5) ? -1 - index : static_cast<double>(limit_) + index * 0x1p20;
            }
        }
        return result;
    }

    bool narrow_;
    int64_t limit_;
    Layout layout_;
    Tensor &in_, &out_;
};

}  // namespace

const Workload &copy_indices_workload() {
    static const Workload workload("copy_indices", true,
                                   {{"b", 1, 0, 1 << 20, "batch"},
                                    {"r", 2, 0, 4096, "routers"},
                                    {"k", 16, 0, 1 << 24, "routed slots"},
                                    {"narrow", 0, 0, 1, "from 64 bits to 32; else the other way"},
                                    {"limit", 1000, 1, 1 << 30, "positions"},
                                    {"pad", 0, 0, 1 << 20, "unused elements after every row"},
                                    {"shift", 0, 0, 63, "elements that tensors are off a 64-byte boundary"}},
                                   {.smoke = {"k40_r3_b2", "k40_r3_b2_narrow"},
                                    .regular = {"k1024_r4_limit4096", "k1024_r4_limit4096_narrow"},
                                    .irregular = {"k1_r1", "k1_r1_narrow_limit1", "k33_r5_b3_pad3_shift1", "k129_r2_narrow_pad1_limit1073741824", "k0_r2", "k4_r2_b0"},
                                    .options = {{"k41_r3_b2"}, {"", "narrow"}, {"", "pad1"}, {"", "shift1"}},
                                    .perf = {"k4096_r1_b8"}},
                                   [](const Shape &shape, DType dtype, uint64_t seed) -> std::unique_ptr<Instance> {
                                       return std::make_unique<CopyIndices>(shape, dtype, seed);
                                   });
    return workload;
}

}  // namespace moa::workloads
