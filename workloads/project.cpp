#include "workloads/project.h"

#include "runtime/text.h"

#include <algorithm>

namespace moa::workloads {

namespace {

constexpr uint32_t every_axis(int rank) {
    return (1u << rank) - 1;
}

}  // namespace

Project::Project(const Shape &shape, DType dtype, uint64_t seed)
    : OpInstance(dtype, seed), sizes_(shape),
      exact_(shape.has("exact")), layout_{.pad = shape("pad"), .shift = shape("shift")},
      out_layout_{.pad = shape("pad"), .shift = shape("shift"), .swap = shape.has("swap")} {
    const ProjectSizes &s = sizes_;
    add_rows(shape);
    add_norm(shape);
    weights_ = data_array(random(), {s.in, s.out(), s.e}, exact_, 1 / std::sqrt(static_cast<double>(s.in)));
    if (shape.has("badw")) {
        const int64_t place = elements_of(weights_.extents) * shape("at") / 1000;
        const NotFinite with{static_cast<uint8_t>(shape("as"))};
        Tensor one("weight", DType::f32, {1});
        one.spoil(0, with);
        weights_.data[place] = one.values().data[0];
        spoil_prepared(text("weights {} is not finite", index_text(weights_.extents, place)));
    }
    const bool bias = shape.has("bias");
    bias_ = &input("bias", DType::f32,
                   bias ? data_array(random(), {s.out(), s.e}, exact_) : Array({s.out(), s.e}), {},
                   bias ? 0 : every_axis(2));
    add_rotary(shape);
    add_scale(shape);
    out_ = &output("out", dtype, {s.dim, s.rows, s.heads, s.e, s.b}, out_layout_);
    arguments_.x = x_->view();
    arguments_.rows = rows_->view();
    arguments_.stats = stats_->view();
    arguments_.bias = bias_->view();
    arguments_.gather = s.gather;
    arguments_.norm_dim = static_cast<int32_t>(s.in);
    arguments_.activation = shape.has("gelu") ? ops::Activation::gelu : ops::Activation::none;
    arguments_.out = out_->view();
    set_weights({});
}

void Project::add_rows(const Shape &shape) {
    const ProjectSizes &s = sizes_;
    const Array x = data_array(random(), {s.in, s.x_rows, s.b}, exact_);
    Array rows({s.rows, s.e, s.b});
    for (int64_t b = 0; b < s.b; b++) {
        for (int64_t e = 0; e < s.e; e++) {
            for (int64_t m = 0; m < s.rows && s.x_rows > 0; m++) {  // "cross": tokens of other batch rows too
                const int64_t source = shape.has("cross") ? random().below(s.b) : b;
                rows(m, e, b) = static_cast<double>(source * s.x_rows + random().below(s.x_rows));
            }
        }
    }
    x_ = &input("x", dtype(), x, layout_);
    rows_ = &input("rows", DType::i32, s.gather ? rows : Array(rows.extents), layout_,
                   s.gather ? 0 : every_axis(3));
}

void Project::add_norm(const Shape &shape) {
    const ProjectSizes &s = sizes_;
    arguments_.norm =
        shape.has("ln") ? ops::Norm::layer : (shape.has("rms") ? ops::Norm::rms : ops::Norm::none);
    if (arguments_.norm == ops::Norm::none) {
        stats_ = &input("stats", DType::f32, Array({s.x_rows, 3, s.b}), layout_, every_axis(3));
        return;
    }
    const Array x = x_->values();
    Array stats({s.x_rows, 3, s.b});
    for (int64_t b = 0; b < s.b; b++) {
        for (int64_t n = 0; n < s.x_rows; n++) {
            double sum = 0, squares = 0;
            for (int64_t c = 0; c < s.in; c++) {
                sum += x(c, n, b);
                squares += x(c, n, b) * x(c, n, b);
            }
            const double mean = sum / static_cast<double>(s.in);
            stats(n, 0, b) = squares;
            stats(n, 1, b) = mean;
            stats(n, 2, b) = std::max(squares / static_cast<double>(s.in) - mean * mean, 0.0);
        }
    }
    stats_ = &input("stats", DType::f32, stats, layout_);
}

void Project::add_rotary(const Shape &shape) {
    const ProjectSizes &s = sizes_;
    const bool rotary = shape.has("rotary");
    const int64_t table = rotary ? s.x_rows + 3 : 1;
    const bool by_batch = shape.has("tables");
    Array cosines({s.dim, table, by_batch ? s.e : 1, by_batch ? s.b : 1}), sines(cosines.extents),
        positions({s.rows, s.e, s.b});
    for (size_t i = 0; i < cosines.data.size(); i++) {
        const double angle = 3 * random().normal();
        cosines.data[i] = std::cos(angle);
        sines.data[i] = std::sin(angle);
    }
    for (double &position : positions.data) {
        position = static_cast<double>(random().below(table));
    }
    cosines_ = &input("cosines", DType::f32, cosines, layout_);
    sines_ = &input("sines", DType::f32, sines, layout_);
    positions_ = &input("positions", DType::i32, positions, layout_);
    arguments_.cosines = cosines_->view();
    arguments_.sines = sines_->view();
    for (View *view : {&arguments_.cosines, &arguments_.sines}) {
        if (!by_batch) {
            view->axes[2] = {s.e, 0};
            view->axes[3] = {s.b, 0};
        }
    }
    arguments_.positions = positions_->view();
    arguments_.rotary_heads = static_cast<int32_t>(shape("rotary"));
}

// Every third scale is zero: the output is, too, even where the row of x holds a NaN.
void Project::add_scale(const Shape &shape) {
    const ProjectSizes &s = sizes_;
    if (s.scale_heads == 0) {
        scale_ =
            &input("scale", DType::f32, Array({s.rows, s.scale_groups(), s.e, s.b}, 1), {}, every_axis(4));
        arguments_.scale_heads = static_cast<int32_t>(s.heads);
        arguments_.scale = scale_->view();
        return;
    }
    Array scale({s.rows, s.scale_groups(), s.e, s.b});
    for (size_t i = 0; i < scale.data.size(); i++) {
        const bool zero = static_cast<int64_t>(i) % s.rows % 3 == 1;
        scale.data[i] =
            zero ? 0 : (exact_ ? static_cast<double>(1 + random().below(2)) : 2 * random().uniform());
    }
    scale_ = &input("scale", DType::f32, scale, layout_);
    arguments_.scale_heads = static_cast<int32_t>(s.scale_heads);
    arguments_.scale = scale_->view();
    if (shape.has("nan")) {
        Array x = x_->values();
        for (int64_t n = 1; n < s.x_rows; n += 3) {
            x(s.in / 2, n, 0) = kNan;
        }
        x_->assign(x);
    }
}

void Project::set_weights(const PanelFormat &format) {
    if (format_ == format) {
        return;
    }
    const ProjectSizes &s = sizes_;
    const bool same_values = format_ && format_->precision() == format.precision();
    format_ = format;
    const std::vector<float> weights(weights_.data.begin(), weights_.data.end());
    packed_ = std::make_unique<Tensor>(
        "weights", DType::u8, Extents{static_cast<int64_t>(packed_bytes(format, s.out(), s.in, s.e))});
    pack_panels(format, weights.data(), s.out(), s.in, s.e, packed_->view().data);
    arguments_.weights = packed_view(format, packed_->view().data, s.out(), s.in, s.e);
    if (same_values) {
        return;
    }
    forget_reference();
    panel_values_.resize(weights.size());
    std::transform(weights.begin(), weights.end(), panel_values_.begin(),
                   [&](float w) { return static_cast<float>(rounded_to(format.precision(), w)); });
    Array colsum({s.out(), s.e});
    for (int64_t row = 0; row < s.out() * s.e; row++) {
        for (int64_t c = 0; c < s.in; c++) {
            colsum.data[row] += panel_values_[row * s.in + c];
        }
    }
    colsum_ = std::make_unique<Tensor>("colsum", DType::f32, colsum.extents);
    colsum_->assign(colsum);
    arguments_.colsum = colsum_->view();
}

const Workload &project_workload() {
    static const Workload workload(
        "project", false,
        {{"b", 1, 0, 1 << 20, "batch"},
         {"e", 1, 1, 4096, "experts"},
         {"rows", 64, 0, 1 << 24, "rows of the product, per expert"},
         {"in", 64, 1, 1 << 20, "input channels"},
         {"heads", 1, 1, 1 << 16, "heads; output channels are heads * dim"},
         {"dim", 64, 1, 1 << 16, "channels of a head"},
         {"gather", 0, 0, 1, "rows are gathered"},
         {"n", 0, 0, 1 << 24, "positions to gather from; 0: twice the rows"},
         {"cross", 0, 0, 1, "gathers from other batch rows too"},
         {"rms", 0, 0, 1, "rms norm"},
         {"ln", 0, 0, 1, "layer norm"},
         {"bias", 0, 0, 1, "bias"},
         {"gelu", 0, 0, 1, "GELU"},
         {"rotary", 0, 0, 1 << 16, "heads to rotate"},
         {"tables", 0, 0, 1, "rotary tables of their own for every expert and batch row"},
         {"scale", 0, 0, 1 << 16, "heads that share a scale; 0: no scales"},
         {"nan", 0, 0, 1, "every third row of x holds a NaN (with scale)"},
         {"badw", 0, 0, 1, "an element of the weights is not finite, chosen as those of inputs are"},
         {"swap", 0, 0, 1, "output in memory as b e m h d"},
         {"pad", 0, 0, 1 << 20, "unused elements after every row"},
         {"shift", 0, 0, 63, "elements that tensors are off a 64-byte boundary"},
         {"exact", 0, 0, 1, "small integers, to be met exactly"}},
        {.smoke = {"rows40_in48_heads2_dim32_e2_gather_rms"},
         .regular = {"rows64_in512_heads8_dim64_e2_gather_rms", "rows64_in512_heads2_dim64_exact",
                     "rows100_in256_heads4_dim64_gather_ln_rotary2_scale2_swap",
                     "rows60_in128_heads2_dim128_bias_gelu_rms",
                     "rows64_in128_heads6_dim32_gather_rms_rotary4_scale3_e2_b2",
                     "rows70_in256_dim256_exact_bias", "rows64_in128_heads12_dim64_ln_swap_b2"},
         .irregular = {"rows1_in1_dim1",
                       "rows1_in1_dim1_bias_gelu_exact",
                       "rows2_in2_dim2_rotary1",
                       "rows3_in5_dim7_exact",
                       "rows5_in17_heads3_dim4_rotary2_scale1_e3_b2_gather_rms_nan",
                       "rows7_in127_heads5_dim6_exact_e2_pad1",
                       "rows11_in129_dim33_exact_bias_shift1",
                       "rows13_in31_heads3_dim48_rotary3_gather_cross_tables_b3_e2_pad5_shift3",
                       "rows13_in64_heads2_dim96_scale2_nan_gather_exact",
                       "rows37_in65_heads3_dim32_ln_gelu_bias_swap_pad3",
                       "rows12_in70_heads2_dim64_rotary1_tables_e2_b2_swap_shift1",
                       "rows1_in300_heads4_dim64_rms_gather",
                       "rows25_in99_heads3_dim128_rotary3_scale3_gather_rms_cross_b2",
                       "rows17_in1000_dim40_exact",
                       "rows16_in16_heads2_dim16_exact_gather_scale2",
                       "rows49_in33_dim1_exact",
                       "rows6_in2_dim514_exact",
                       "rows9_in40_heads16_dim2_rotary16",
                       "rows0_in8_dim8",
                       "rows4_in8_dim8_b0",
                       "rows0_in8_dim8_gather_n5"},
         .options = {{"rows11_in37_e2_b2"},
                     {"heads3_dim32", "heads2_dim64"},
                     {"", "gather", "gather_cross"},
                     {"", "rms", "ln"},
                     {"", "bias"},
                     {"", "gelu"},
                     {"", "rotary2", "rotary1_tables"},
                     {"", "scale1", "scale2_nan"}},
         .not_finite = {{{"rows11_in37_e2_b2"}, {"heads3_dim32", "heads2_dim64"}, {"", "gather_rms_rotary2_scale1", "ln_bias_gelu_scale2"}, {"bad1", "badw"}, {"", "as1", "as2", "as3"}, {"at430"}},
                        {{"rows130_in70_heads2"}, {"dim64", "dim64_rms_rotary1", "dim33_rms", "dim34_rms_rotary1", "dim128", "dim128_rms_rotary1"}, {"bad1", "badw"}, {"", "as1"}},
                        {{"rows130_in128_heads2_dim64"}, {"rms_bad3_at100", "ln_bad3_at500", "ln_bad3_at900", "rms_rotary1_scale1_bad8"}, {"", "as1", "as2", "as3"}},
                        {{"rows11_in37_heads2_dim64_e2_b2"}, {"rms_bad3", "ln_bad3", "bias_gelu_bad4", "rotary2_bad5", "rotary2_bad6", "scale1_bad8"}, {"", "as1", "as2", "as3"}, {"at100"}},
                        {{"rows11_in37_heads2_dim64_e2_b2"}, {"ln_bias_gelu_bad4", "gather_rms_rotary2_scale1_bad8", "bias_bad4"}, {"", "as2"}, {"at430"}}},
         .perf = {"rows4096_in512_heads8_dim64", "rows1024_in512_heads8_dim64_e4_gather_rms_n4096_rotary8",
                  "rows1024_in512_heads16_dim64_e4_gather_rms_n4096_scale8", "rows1024_in512_heads8_dim64_e4",
                  "rows4096_in512_heads24_dim64_ln", "rows2048_in2048_heads16_dim128",
                  "rows16_in512_heads8_dim64_e2_gather_rms_n1024"},
         // 384, 383 and 256 tiles of 128 x 128 are mostly tails of many experts: that many blocks with little to compute.
         .edges = {"rows129_in24_dim160_e96_exact", "rows1_in8_dim160_e192_rms", "rows3_in16_dim32_e383_ln", "rows1_in16_dim64_e96_bias", "rows2_in40_dim32_e97",
                   "rows130_in40_dim136_e64_gelu_bias", "rows130_in24_dim136_e63_b1_ln", "rows33_in40_dim72_gelu", "rows256_in72_dim320_exact",
                   "rows130_in40_heads2_dim64_gather_rms_swap", "rows70_in24_heads3_dim32_ln_bias_b2", "rows65_in72_heads2_dim128_scale1_e2",
                   "rows70_in40_heads3_dim64_rotary2_b2", "rows131_in24_heads3_dim32_rotary3_tables_e2_b2", "rows66_in72_heads2_dim128_rotary1_gather_rms",
                   "rows48_in33_heads2_dim64", "rows49_in33_heads2_dim64_rotary1", "rows49_in1024_dim32", "rows50_in1025_dim32_rotary1", "rows50_in1025_dim32_exact",
                   "rows1024_in8_dim32_exact", "rows1025_in8_dim32_exact", "rows9_in40_dim256_rotary1", "rows9_in40_dim258_rotary1"}},
        [](const Shape &shape, DType dtype, uint64_t seed) -> std::unique_ptr<Instance> {
            return std::make_unique<Project>(shape, dtype, seed);
        });
    return workload;
}

}  // namespace moa::workloads
