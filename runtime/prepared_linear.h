#pragma once

#include "runtime/packing.h"
#include "runtime/view.h"

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

namespace moa {

// The weights of one product per expert, with the norm's gain folded in, packed once for each panel format that plans
// ask for. Shared by plans and threads.
class PreparedLinear {
public:
    // weights: row-major [experts, out, in], gains folded in; bias: [experts, out], may be empty.
    PreparedLinear(int64_t experts, int64_t out, int64_t in, std::vector<float> weights, std::vector<float> bias = {});

    struct Packed {
        std::unique_ptr<std::byte[]> memory;
        View panels;                // experts outermost
        std::vector<float> colsum;  // [experts, out]: sums over input channels of the weights as packed, rounding included
        View colsum_view;           // o e
    };
    const Packed &packed(const PanelFormat &format) const;

    int64_t experts() const {
        return experts_;
    }
    int64_t dim_out() const {
        return out_;
    }
    int64_t dim_in() const {
        return in_;
    }
    View bias_view() const;  // o e

private:
    int64_t experts_, out_, in_;
    std::vector<float> weights_, bias_;
    mutable std::mutex mutex_;
    mutable std::map<PanelFormat, std::unique_ptr<const Packed>> packed_;
};

}  // namespace moa
