#include "runtime/layers/common.h"

#include "runtime/arguments.h"
#include "runtime/elements.h"

#include <array>
#include <utility>

namespace moa {

namespace {

std::vector<float> copy(const TensorView &tensor) {
    std::vector<float> values(static_cast<size_t>(tensor.elements()));
    const auto element = static_cast<int64_t>(size_bytes(tensor.dtype));
    std::array<int64_t, kMaxRank> at{};
    for (float &value : values) {
        int64_t offset = 0;
        for (int axis = 0; axis < tensor.rank; axis++) {
            offset += at[axis] * tensor.strides[axis];
        }
        value = static_cast<float>(load_element(tensor.dtype, static_cast<const std::byte *>(tensor.data) + offset * element));
        for (int axis = tensor.rank - 1; axis >= 0 && ++at[axis] == tensor.shape[axis]; axis--) {
            at[axis] = 0;
        }
    }
    return values;
}

}  // namespace

std::vector<float> WeightReader::take(const std::string &name, std::initializer_list<int64_t> shape) {
    taken_.insert(name);
    const std::vector<int64_t> wanted(shape);
    const auto found = weights_.find(name);
    if (found == weights_.end()) {
        if (status_.ok()) {
            const auto why = weights_.unreadable.find(name);
            status_ = why == weights_.unreadable.end() ? Status(Code::not_found, text("weight {} {} is missing", name, text_of(wanted)))
                                                       : Status(Code::unsupported, text("weight {}: the layer wants f32, bf16 or f16 {}, and the file has {}", name, text_of(wanted), why->second));
        }
        return {};
    }
    const TensorView &tensor = found->second;
    constexpr std::array kDTypes{DType::f32, DType::bf16, DType::f16};
    const std::string label = "weight " + name;
    Status status = check_kind({"the layer", label, kDTypes, wanted, {}}, tensor);
    status = status.ok() ? check_memory(label, tensor) : status;
    if (!status.ok()) {
        status_ = status_.ok() ? status : status_;
        return {};
    }
    return with_memory(static_cast<size_t>(tensor.elements()) * sizeof(float), "weight", name, [&] { return copy(tensor); });
}

Status WeightReader::finish() const {
    if (!status_.ok()) {
        return status_;
    }
    for (const auto &[name, tensor] : weights_) {
        if (!taken_.contains(name)) {
            return invalid("weight {} {} belongs to no part of this layer", name, tensor.describe());
        }
    }
    return {};
}

Floats share(std::vector<float> values) {
    return std::make_shared<const std::vector<float>>(std::move(values));
}

void fold_gain(std::vector<float> &weights, const std::vector<float> &gain, int64_t in) {
    for (size_t index = 0; index < weights.size(); index++) {
        weights[index] *= gain[index % static_cast<size_t>(in)];
    }
}

View broadcast(View view, std::initializer_list<int64_t> extents) {
    view.rank = 0;
    for (const int64_t extent : extents) {
        view.axes[view.rank++] = {extent, 0};
    }
    return view;
}

namespace {

View table_view(const Frame &f, Handle table, bool per_expert, int64_t first, int64_t count, int64_t batch) {
    const View view = f[table];
    return per_expert ? view.crop(2, first, count) : view.insert(2, {count, 0}).insert(3, {batch, 0});
}

// An output without axes of heads, or of experts, either: one each.
View with_heads(const View &out) {
    const View heads = out.rank < 5 ? out.insert(2, {1, 0}) : out;
    return heads.rank < 5 ? heads.insert(3, {1, 0}) : heads;
}

ops::Project arguments_of(const Frame &f, const Product &p, int64_t first, int64_t count) {
    const TokenSource &t = p.tokens;
    ops::Project a;
    a.x = t.per_expert ? f[t.x].pick(2, first) : f[t.x];
    a.gather = static_cast<bool>(t.rows);
    a.rows = a.gather ? f[t.rows].crop(1, first, count) : broadcast(ops::zero_i32(3), {t.count, count, p.batch});
    a.norm = p.norm;
    a.norm_dim = static_cast<int32_t>(a.x.extent(0));
    a.stats = !t.stats ? broadcast(ops::zero_f32(3), {a.x.extent(1), 3, a.x.extent(2)}) : (t.per_expert ? f[t.stats].pick(2, first) : f[t.stats]);
    a.activation = p.activation;
    a.out = with_heads(f[p.out]).crop(3, first, count);
    const int64_t width = a.out.extent(0);
    if (p.rotary) {
        a.cosines = table_view(f, p.rotary.cosines, p.rotary.per_expert, first, count, p.batch);
        a.sines = table_view(f, p.rotary.sines, p.rotary.per_expert, first, count, p.batch);
        const View positions = f[p.rotary.positions];
        a.positions = positions.rank == 1 ? positions.insert(1, {count, 0}).insert(2, {p.batch, 0}) : positions.crop(1, first, count);
        a.rotary_heads = static_cast<int32_t>(p.rotary_heads);
    } else {
        a.cosines = a.sines = broadcast(ops::zero_f32(4), {width, 1, count, p.batch});
        a.positions = broadcast(ops::zero_i32(3), {t.count, count, p.batch});
    }
    a.scale_heads = static_cast<int32_t>(p.scale ? p.scale_heads : p.heads);
    a.scale = p.scale ? f[p.scale].crop(2, first, count) : broadcast(ops::one_f32(4), {t.count, 1, count, p.batch});
    return a;
}

}  // namespace

void project(PlanBuilder &builder, const Product &product) {
    const int64_t launches = product.tokens.per_expert ? product.experts : 1;
    for (int64_t launch = 0; launch < launches && builder.ok(); launch++) {
        const int64_t first = launch;
        const int64_t count = product.tokens.per_expert ? 1 : product.experts;
        builder.project(
            product.name, product.linear, [product, first, count](const Frame &f) { return arguments_of(f, product, first, count); }, first, count);
    }
}

// Positions are combine's, and the factor its local branch: masked positions are 0 there.
void masked_factor(PlanBuilder &builder, const std::string &name, const std::function<MaskedFactor(const Frame &)> &make) {
    if (!builder.ok()) {
        return;
    }
    const View shape = make(builder.shapes()).out;
    for (int64_t expert = 0; expert < shape.extent(1); expert++) {
        builder.step(name, [=](const Frame &f) {
            const MaskedFactor m = make(f);
            const int64_t n = m.out.extent(0), b = m.out.extent(2);
            const auto plane = [&](const View &view) { return view.pick(1, expert); };
            ops::Combine a;
            a.a = broadcast(ops::zero_f32(4), {1, 1, 1, b});
            a.a.axes[0].stride = 1;
            a.slots = broadcast(ops::zero_i32(3), {n, 1, b});
            a.valid = broadcast(ops::one_u8(3), {1, 1, b});
            a.local = plane(m.factor).insert(0, {1, 1});
            a.null_token = broadcast(ops::zero_f32(1), {1});
            a.null_token.axes[0].stride = 1;
            a.mask = plane(m.mask);
            a.routed = true;
            a.has_local = true;
            a.out = plane(m.out).insert(0, {1, 1});
            return a;
        });
    }
}

void fill_planes(PlanBuilder &builder, Handle scale, int64_t count) {
    if (count > 0) {
        builder.host("scales of 1", {scale}, [=](const Frame &f) { return f.fill(f[scale].crop(1, 0, count), 1.f); });
    }
}

Handle row_statistics(PlanBuilder &builder, const std::string &name, Handle x, int64_t batch, int64_t length) {
    const Handle stats = builder.temporary(DType::f32, {batch, 3, length});
    builder.step(name, [=](const Frame &f) { return ops::RowStatistics{f[x], f[stats]}; });
    return stats;
}

Rotary rotary_tables(PlanBuilder &builder, Handle angles, int64_t length, int64_t dim_head) {
    Rotary rotary;
    rotary.cosines = builder.temporary(DType::f32, {length, dim_head});
    rotary.sines = builder.temporary(DType::f32, {length, dim_head});
    builder.step("rotary table", [=](const Frame &f) { return ops::RotaryTable{f[angles], f[rotary.cosines], f[rotary.sines]}; });
    return rotary;
}

}  // namespace moa
