#pragma once

#include "moa/plan.h"
#include "runtime/layers/common.h"

namespace moa {

// Weights and sequence of grouped attention, shared by Attention and MixtureOfAttention.
struct AttentionCore {
    int64_t dim = 0, dim_context = 0, dim_head = 0, heads = 0, experts = 0;
    bool prenorm = false;
    // The package pairs keys and values of different experts (semantics `reference`); the same for one expert.
    bool crossed_key_values = false;
    std::shared_ptr<const PreparedLinear> to_q{};
    std::shared_ptr<const PreparedLinear> to_kv{};   // experts of keys then values
    std::shared_ptr<const PreparedLinear> halves{};  // 2 * experts blocks of keys or values; crossed only
    std::shared_ptr<const PreparedLinear> to_out{};
    Floats null_key{}, null_value{};  // [e, h, d]

    // Weights `prefix`null_kv and so on. dim, dim_context, dim_head, heads, experts, prenorm are set.
    void read(WeightReader &weights, const std::string &prefix);
};

struct AttentionRequest {
    int64_t batch = 1;
    TokenSource queries{}, keys{};
    Rotary query_rotary{}, key_rotary{};
    Handle query_scale{};      // [b, e, 1, i] f32
    Handle key_value_scale{};  // [b, e, 2, j] f32: of keys, of values
    Handle output_scale{};     // [b, e, 1, i] f32
    Handle mask{};             // [b, e, j] or [b, j] u8; none: all keys
    bool mask_per_expert = false;
};

// Writes to `out` [b, e, i, c] in the plan's dtype; without one, makes it.
Handle attend(PlanBuilder &builder, const AttentionCore &core, const AttentionRequest &request, Handle out = {});

}  // namespace moa
