#pragma once

#include "moa/local_attention.h"
#include "runtime/layers/common.h"
#include "runtime/process.h"

#include <memory>
#include <string>

namespace moa {

// Windows of local attention, and its constant tables: rotation by slot, with the softmax scale and xpos folded in.
struct LocalWindows {
    int64_t window = 0, look_backward = 1, look_forward = 1, dim_head = 0;
    bool causal = false, exact = false, shared_qk = false, normalize_q = false, normalize_k = false;
    double scale = 1;
    bool use_xpos = false;
    double xpos_scale_base = 0;
    std::vector<float> inv_freq{};  // empty: no rotation
    std::vector<float> q_gain{}, k_gain{};

    int64_t slots() const {
        return (look_backward + 1 + look_forward) * window;
    }
};

// Checks the options, after what has been checked of the layer; dim_head, rotation and gains are the caller's.
Result<LocalWindows> windows_of(OptionCheck &check, const LocalAttentionOptions &options, int64_t dim_head);

struct LocalRequest {
    int64_t batch = 1, heads = 1, length = 0;
    std::function<View(const Frame &)> q{}, k{}, v{};  // d n h b
    Handle mask{};                                     // [b, n]
    Handle bias{};                                     // [h, w, slots] f32
    Handle gate{};                                     // [b, n, h]
    std::function<View(const Frame &)> out{};          // d n h b
};

void local_attention(PlanBuilder &builder, const LocalWindows &windows, const LocalRequest &request);

// LocalMHA's weights and sequence, shared with the local branch of MixtureOfAttention.
struct LocalCore {
    int64_t dim = 0, dim_head = 0, heads = 0;
    bool prenorm = false, gated = false;
    LocalWindows windows{};
    std::shared_ptr<const PreparedLinear> to_qkv{}, to_gate{}, to_out{};
    // to_qkv for rotation by position in the product. Made when a plan first wants it: only plans of GPUs do.
    struct TurnedQkv {
        Once once;
        std::unique_ptr<const std::shared_ptr<const PreparedLinear>> linear;
    };
    std::shared_ptr<TurnedQkv> turned_qkv = std::make_shared<TurnedQkv>();
};

Result<LocalCore> read_local_core(const LocalMHA::Config &config, WeightReader &weights, const std::string &prefix);

struct LocalCoreRequest {
    int64_t batch = 1, length = 0;
    Handle x{};      // [b, n, c]
    Handle stats{};  // [b, 3, n] with prenorm
    Handle mask{}, bias{};
    Handle out{};  // [b, n, c]
};

void attend_locally(PlanBuilder &builder, const LocalCore &core, const LocalCoreRequest &request);

}  // namespace moa
