#pragma once

#include "runtime/packing.h"
#include "workloads/data.h"
#include "workloads/workload.h"

#include <memory>
#include <optional>
#include <vector>

namespace moa::workloads {

struct ProjectSizes {
    explicit ProjectSizes(const Shape &s)
        : b(s("b")), e(s("e")), rows(s("rows")), in(s("in")), heads(s("heads")), dim(s("dim")),
          gather(s.has("gather")), x_rows(gather ? (s.has("n") ? s("n") : 2 * rows) : rows),
          scale_heads(s("scale")) {
        if (s.has("rotary") && dim % 2 != 0) {
            throw ShapeError("rotary needs an even dim");
        }
        if (s("rotary") > heads) {
            throw ShapeError("rotary counts heads: at most all of them");
        }
    }

    int64_t out() const {
        return heads * dim;
    }
    int64_t scale_groups() const {
        return scale_heads == 0 ? 1 : (heads + scale_heads - 1) / scale_heads;
    }

    int64_t b, e, rows, in, heads, dim;
    bool gather;
    int64_t x_rows, scale_heads;
};

class Project : public OpInstance<ops::Project> {
public:
    Project(const Shape &shape, DType dtype, uint64_t seed);

    // Packs the weights as the row wants them. The reference multiplies what the panels hold, bf16 or f32.
    Status prepare(const Row &row) override {
        set_weights(format_of(row));
        return {};
    }

    double flops() const override {
        return 2 * product_of({sizes_.rows, sizes_.e, sizes_.b, sizes_.in, sizes_.out()});
    }
    double bytes() const override {
        return Instance::bytes() +
               static_cast<double>(packed_bytes(*format_, sizes_.out(), sizes_.in, sizes_.e));
    }

    std::vector<const Tensor *> prepared() const override {
        return {packed_.get(), colsum_.get()};
    }

protected:
    std::vector<Expected> reference() const override;

private:
    struct Value {
        double value = 0, bound = 0;
    };
    struct Operands {
        Array x, rows, stats, colsum, bias, cosines, sines, positions, scale;
    };
    Value product(const Operands &from, const std::vector<double> &weights, int64_t source, int64_t o,
                  int64_t e) const;
    void epilogue(const Operands &from, std::vector<Value> &row, int64_t m, int64_t e, int64_t b,
                  Expected &out) const;

    void add_rows(const Shape &shape);
    void add_norm(const Shape &shape);
    void add_rotary(const Shape &shape);
    void add_scale(const Shape &shape);
    void set_weights(const PanelFormat &format);

    ProjectSizes sizes_;
    bool exact_;
    Layout layout_, out_layout_;
    Array weights_;  // c o e, in f32
    std::optional<PanelFormat> format_;
    std::vector<float> panel_values_;  // c o e, as the panels hold them
    std::unique_ptr<Tensor> packed_;
    Tensor *x_ = nullptr, *rows_ = nullptr, *stats_ = nullptr, *bias_ = nullptr, *cosines_ = nullptr,
           *sines_ = nullptr, *positions_ = nullptr, *scale_ = nullptr, *out_ = nullptr;
    std::unique_ptr<Tensor> colsum_;
};

}  // namespace moa::workloads
