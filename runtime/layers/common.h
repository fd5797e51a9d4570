#pragma once

#include "moa/weights.h"
#include "runtime/caught.h"
#include "runtime/layers/options.h"
#include "runtime/plan_builder.h"
#include "runtime/text.h"

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace moa {

// Reads a layer's weights by state_dict name. The first missing or misshapen tensor sticks; tensors that nobody asked
// for are an error too, since they mean that the layer is not the one that was trained.
class WeightReader {
public:
    explicit WeightReader(const TensorMap &weights)
        : weights_(weights) {
    }

    bool has(std::string_view name) const {
        return weights_.find(name) != weights_.end();
    }
    bool ok() const {
        return status_.ok();
    }
    const Status &status() const {
        return status_;
    }
    // Row-major f32 copy of an f32, bf16 or f16 tensor of any strides from 0 on; empty if it is missing or wrong. What numbers it holds
    // does not matter.
    std::vector<float> take(const std::string &name, std::initializer_list<int64_t> shape);
    // Names that the layer does not use but that a state_dict may hold.
    void ignore(const std::string &name) {
        taken_.insert(name);
    }
    Status finish() const;

private:
    FloatEnvironment floats_;  // for what layers fold into their weights
    const TensorMap &weights_;
    std::set<std::string> taken_;
    Status status_;
};

using Floats = std::shared_ptr<const std::vector<float>>;

Floats share(std::vector<float> values);

// Scales input channel c of every output row by gain[c]: weights [rows, in].
void fold_gain(std::vector<float> &weights, const std::vector<float> &gain, int64_t in);

// An "absent" view (ops::zero_f32 and so on) with extents and strides of 0.
View broadcast(View view, std::initializer_list<int64_t> extents);

// The token rows that a product reads.
struct TokenSource {
    Handle x{};      // [b, n, c], or [b, e, n, c] if every expert has tokens of its own
    Handle stats{};  // [b, 3, n] or [b, e, 3, n]; none without a norm
    Handle rows{};   // [b, e, k] i32 positions over [b, n]; none: every position in order
    bool per_expert = false;
    int64_t count = 0;  // rows of the product a batch entry and expert
};

struct Rotary {
    Handle cosines{}, sines{};  // [p, d], or [b, e, p, d]
    Handle positions{};         // [b, e, k] i32 or [k] i32 into p
    bool per_expert = false;

    explicit operator bool() const {
        return static_cast<bool>(cosines);
    }
};

struct Product {
    std::string name{};
    std::shared_ptr<const PreparedLinear> linear{};
    TokenSource tokens{};
    int64_t batch = 1, experts = 1;
    int64_t heads = 1;  // output channels = heads * head width
    ops::Norm norm = ops::Norm::none;
    ops::Activation activation = ops::Activation::none;
    Rotary rotary{};
    int64_t rotary_heads = 0;
    Handle scale{};  // [b, e, s, k] f32; none: 1
    int64_t scale_heads = 0;
    Handle out{};  // [b, e, h, m, d], heads as blocks of rows, so that attention reads them as they lie;
                   // or [b, e, m, o], or [b, m, o] for one expert
};

// One launch for all experts, or one an expert where each has tokens of its own.
void project(PlanBuilder &builder, const Product &product);

// Zero where a mask hides, else a factor: on GPUs, where no host step may do it.
struct MaskedFactor {
    View factor;  // n e b, f32
    View mask;    // n e b, u8
    View out;     // n e b, f32
};
void masked_factor(PlanBuilder &builder, const std::string &name, const std::function<MaskedFactor(const Frame &)> &make);
// 1 in the first `count` planes of scales [b, e, planes, n].
void fill_planes(PlanBuilder &builder, Handle scale, int64_t count);

// Row statistics of x [b, n, c] -> [b, 3, n].
Handle row_statistics(PlanBuilder &builder, const std::string &name, Handle x, int64_t batch, int64_t length);

// Cosines and sines of angles [n, d].
Rotary rotary_tables(PlanBuilder &builder, Handle angles, int64_t length, int64_t dim_head);

}  // namespace moa
