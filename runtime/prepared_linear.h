#pragma once

#include "runtime/cuda/memory.h"
#include "runtime/packing.h"
#include "runtime/process.h"
#include "runtime/view.h"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace moa {

// The weights of one product per expert, with the norm's gain folded in, packed once for each panel format that plans
// ask for. Shared by plans and threads.
class PreparedLinear {
public:
    // weights: row-major [experts, out, in], gains folded in; bias: [experts, out], may be empty.
    PreparedLinear(int64_t experts, int64_t out, int64_t in, std::vector<float> weights, std::vector<float> bias = {});
    ~PreparedLinear();
    PreparedLinear(const PreparedLinear &) = delete;
    PreparedLinear &operator=(const PreparedLinear &) = delete;

    struct Packed {
        std::unique_ptr<std::byte[]> memory;                 // of the cpu
        std::shared_ptr<const cuda::DeviceMemory> on_gpu{};  // panels, column sums and bias in one piece
        View panels;                                         // experts outermost
        std::vector<float> colsum;                           // [experts, out]: sums over input channels of the weights as packed, rounding included
        View colsum_view, bias_view;                         // o e
    };
    // Stays as it is for as long as this lives. Fails only on a GPU (no context: the cpu), when that has no memory left.
    Result<const Packed *> packed(const PanelFormat &format, const std::shared_ptr<const cuda::Context> &context) const;

    int64_t experts() const {
        return experts_;
    }
    int64_t dim_out() const {
        return out_;
    }
    int64_t dim_in() const {
        return in_;
    }
    const std::vector<float> &weights() const {
        return weights_;
    }
    const std::vector<float> &bias() const {
        return bias_;
    }

private:
    Status move_to_gpu(Packed &packed, size_t panel_bytes, const std::shared_ptr<const cuda::Context> &context) const;

    int64_t experts_, out_, in_;
    std::vector<float> weights_, bias_;
    // A list that grows at its head, without a lock that fork() could leave taken.
    struct Entry {
        PanelFormat format;
        const cuda::Context *context;
        Entry *next;
        Once once{};
        std::unique_ptr<const Packed> packed{};
    };
    Entry &entry(const PanelFormat &format, const cuda::Context *context) const;
    Result<std::unique_ptr<const Packed>> pack(const PanelFormat &format, const std::shared_ptr<const cuda::Context> &context) const;
    mutable std::atomic<Entry *> entries_{nullptr};
};

}  // namespace moa
