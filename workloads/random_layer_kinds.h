#pragma once

#include "workloads/layer_maker.h"
#include "workloads/layer_reference.h"
#include "workloads/random_layer.h"

#include <functional>
#include <string>
#include <vector>

// How random layers are drawn: one function a kind of layer.
namespace moa::workloads {

// What a kind's function fills.
struct Drawn {
    Random &random;
    LayerMaker &maker;
    RandomLayer::Bounds bounds;
    double products = 0;
    std::string text{};
    std::function<Rows(Rounding &)> reference{};              // the output `out`, a row a token
    std::function<Status()> check = [] { return Status(); };  // of the other outputs

    // Log-uniform: small sizes are as likely as large ones.
    int64_t size(int64_t low, int64_t high);
    int64_t head_width(bool even);
    // Whether this is to be drawn anew: a kind's function ends here, before it makes tensors.
    bool too_large() const {
        return products > bounds.most_products;
    }
    bool chance(double probability) {
        return random.chance(probability);
    }
    void say(const char *name, int64_t value) {
        text += std::string(" ") + name + " " + std::to_string(value);
    }
    // Says it if it is so.
    bool option(const char *name, double probability, bool possible = true);

    const float *weight(const std::string &name) const {
        return static_cast<const float *>(maker.weights().at(name).data);
    }
    Rows rows(std::string_view name, int64_t count, int64_t width) const;  // of an input, whole
    Rows angles(std::string_view name, int64_t count, int64_t width) const;
    std::vector<uint8_t> mask(std::string_view name) const;  // empty: none
    const void *memory(std::string_view name) const;         // null: none
};

Rows part_of(const Rows &all, int64_t first, int64_t count);
std::vector<uint8_t> part_of(const std::vector<uint8_t> &all, int64_t first, int64_t count);  // of none: none

Status draw_linear(Drawn &drawn);
Status draw_feed_forward(Drawn &drawn);
Status draw_local_attention(Drawn &drawn);
Status draw_local_mha(Drawn &drawn);
Status draw_attention(Drawn &drawn);
Status draw_mixture(Drawn &drawn);

// LocalMHA, as the local branch of a mixture is one, too.
void add_local_mha(Drawn &drawn, const LocalMHA::Config &config, const std::string &prefix);
Rows local_mha(const Drawn &drawn, Rounding &rounding, const LocalMHA::Config &config, const std::string &prefix, const Rows &x, const std::vector<uint8_t> &mask, const float *bias);

// Of one group of an Attention's weights.
struct AttentionGroup {
    int64_t group = 0, dim = 0, dim_context = 0, heads = 0, dim_head = 0;
    bool prenorm = false;
    std::string prefix{};
    std::vector<double> query_scale{}, key_scale{}, value_scale{}, output_scale{};  // empty: 1
    Rows query_angles{}, key_angles{};                                              // without rows: no rotation
    std::vector<uint8_t> mask{};
};
void add_attention(Drawn &drawn, const AttentionGroup &of, int64_t groups);
Rows attention_group(const Drawn &drawn, Rounding &rounding, const AttentionGroup &of, const Rows &x, const Rows &context);

}  // namespace moa::workloads
