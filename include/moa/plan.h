#pragma once

#include "moa/export.h"
#include "moa/rows.h"
#include "moa/status.h"
#include "moa/tensor.h"

#include <cstddef>
#include <functional>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace moa {

// What the mathematics means, or what the PyTorch packages compute, surprises included (docs/semantics.md lists them).
enum class Semantics : uint8_t { fixed,
                                 reference };

struct PlanOptions {
    Device device;
    DType dtype = DType::f32;       // storage of activations and products: f32 or bf16; sums are f32 always
    int threads = 0;                // most threads a run may use, the caller's included; 0: one a core
    std::vector<std::string> rows;  // row names to force, at most one an operation
};

struct NamedTensor {
    std::string_view name;
    TensorView tensor;
};

class PlanBuilder;
struct PlanImpl;

// A layer's kernels, chosen for fixed shapes, dtype and device. Immutable and shared by copies: any number of threads
// may run one plan at once, each with tensors and a workspace of its own. The layer's weights live as long as the plan.
class MOA_EXPORT Plan {
public:
    struct Argument {
        std::string name;
        DType dtype;
        std::vector<int64_t> shape;  // outermost first
        bool output = false;
        bool optional = false;
    };
    struct Step {
        std::string name;    // "project queries"
        std::string row;     // the row's name; empty for host steps
        std::string reason;  // why that row
        std::vector<std::string> passed_over;
    };

    size_t workspace_bytes() const;  // alignment kWorkspaceAlignment
    const std::vector<Argument> &arguments() const;
    const std::vector<Step> &steps() const;

    // Binds tensors by name and runs. Every argument that is not optional must be there with the planned dtype and shape
    // (masks: boolean or u8), and no other name. Inputs may overlap each other; outputs may overlap nothing. Allocates
    // nothing. Fails before the first kernel starts if anything is wrong with the arguments; on a later failure the
    // contents of the outputs are unspecified.
    Status run(std::span<const NamedTensor> tensors, std::span<std::byte> workspace) const;
    Status run(std::initializer_list<NamedTensor> tensors, std::span<std::byte> workspace) const {
        return run(std::span<const NamedTensor>(tensors.begin(), tensors.size()), workspace);
    }
    // The same, and calls `observer` with the number of every step that has ended: for profiles. It must not throw.
    using Observer = std::function<void(size_t step)>;
    Status run(std::span<const NamedTensor> tensors, std::span<std::byte> workspace, const Observer &observer) const;
    // With a workspace of its own: convenient, and allocates.
    Status run(std::span<const NamedTensor> tensors) const;
    Status run(std::initializer_list<NamedTensor> tensors) const {
        return run(std::span<const NamedTensor>(tensors.begin(), tensors.size()));
    }

    static constexpr size_t kWorkspaceAlignment = 64;

private:
    friend class PlanBuilder;
    explicit Plan(std::shared_ptr<const PlanImpl> impl);
    std::shared_ptr<const PlanImpl> impl_;
};

}  // namespace moa
