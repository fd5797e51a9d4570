#pragma once

#include "moa/plan.h"
#include "moa/status.h"
#include "moa/tensor.h"
#include "moa/weights.h"
#include "workloads/random.h"

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

// Whole layers in sizes worth comparing with other implementations: the cases of the suite "reference", which
// tests, bench and the tool share. Rows are tested one by one against double-precision loops, layers against
// recordings of the packages; here a layer's output is only watched for what must never happen.
namespace moa::workloads {

// One of the layer cases with seeded inputs and weights, in one storage dtype.
class LayerInstance {
public:
    LayerInstance(DType dtype, uint64_t seed)
        : dtype_(dtype), random_(seed) {
    }
    LayerInstance(const LayerInstance &) = delete;
    LayerInstance &operator=(const LayerInstance &) = delete;

    DType dtype() const {
        return dtype_;
    }
    // For the instance's dtype, whatever the options say.
    Result<Plan> plan(PlanOptions options) const;
    // Inputs and outputs, for Plan::run.
    std::span<const NamedTensor> tensors() const {
        return tensors_;
    }

    // Every product counted once, as one multiplication and one addition.
    double flops() const {
        return flops_;
    }
    // Inputs, outputs and weights, each once, in the dtypes in which they are stored.
    double bytes() const {
        return bytes_;
    }
    // Of them, the weights, and the outputs.
    double weight_bytes() const {
        return weight_bytes_;
    }
    double output_bytes() const;

    void poison();  // outputs become NaN, and no valid index either
    // Fails with the first output element that is no number (or negative, as no index is).
    Status check_outputs() const;
    uint64_t output_hash() const;  // of all output bits: the same on every run

private:
    friend class LayerMaker;
    struct Free {
        void operator()(std::byte *memory) const;
    };
    std::byte *allocate(size_t bytes);

    DType dtype_;
    Random random_;
    std::deque<std::unique_ptr<std::byte[], Free>> memory_;
    std::vector<NamedTensor> tensors_;
    std::vector<size_t> outputs_;  // places in tensors_
    std::function<Result<Plan>(const PlanOptions &)> make_plan_;
    double flops_ = 0, bytes_ = 0, weight_bytes_ = 0;
};

struct LayerCase {
    std::string_view name;
    std::string_view about;  // shapes and options, in words
    bool any_dtype = false;  // everything in it is f32 whatever the storage dtype: f32 only
    bool for_gpus = false;   // too large for the cpu, where it runs only when named
    std::function<Status(class LayerMaker &)> fill;

    // Fails for a dtype that the case does not have.
    Result<std::unique_ptr<LayerInstance>> make(DType dtype, uint64_t seed = 1) const;
};

std::span<const LayerCase> layer_cases();
const LayerCase *find_layer_case(std::string_view name);  // null: none of that name

}  // namespace moa::workloads
