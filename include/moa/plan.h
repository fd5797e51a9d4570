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
    DType dtype = DType::f32;                // storage of activations and products: f32, bf16 or (on GPUs) f16; sums are f32 always
    Precision precision = Precision::exact;  // of products of f32; GPUs only
    int threads = 0;                         // most threads a run may use, the caller's included, up to 256; 0: as many as describe_host().cores
    std::vector<std::string> rows;           // row names to force, at most one an operation, and none of an operation that the plan lacks
};

struct NamedTensor {
    std::string_view name;
    TensorView tensor;
};

class PlanBuilder;
struct PlanImpl;

// A whole run of a plan on a GPU as one CUDA graph, for tensors at fixed addresses. What the plan and the graph need lives
// as long as the graph; the tensors and the workspace are the caller's, and must. Copies share one graph, which may be
// launched again while it runs only on the same stream.
class MOA_EXPORT Graph {
public:
    // On a CUstream; does not wait.
    Status launch(void *stream = nullptr) const;
    size_t nodes() const;  // kernels, copies and fills

private:
    friend class Plan;
    struct Impl;
    explicit Graph(std::shared_ptr<const Impl> impl);
    std::shared_ptr<const Impl> impl_;
};

// A layer's kernels, chosen for fixed shapes, dtype and device. Immutable and shared by copies: any number of threads
// may run one plan at once, each with tensors and a workspace of its own. The layer's weights live as long as the plan.
// docs/process.md says what a run asks of the process that it is a guest of: threads, signals, fork(), floating-point state, exit.
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
        int launches = 0;    // kernels on a GPU
        int threads = 0;     // on the CPU: how many the step pays for, at most PlanOptions::threads; results do not depend on it
        std::vector<std::string> passed_over;
        // On a GPU: arguments that the row takes only if they begin at a multiple of 16 bytes and all strides but the innermost are
        // such multiples. A run that is given others copies them to (outputs: from) a place in the workspace, and takes its steps one
        // after another; the workspace has room for that, mostly where temporaries are at other times.
        std::vector<std::string> aligned;
    };

    const Device &device() const;
    size_t workspace_bytes() const;  // alignment kWorkspaceAlignment
    const std::vector<Argument> &arguments() const;
    const std::vector<Step> &steps() const;

    // Binds tensors by name and runs. Every argument that is not optional must be there with the planned dtype and shape
    // (masks: boolean or u8, of which every byte but 0 shows), and no other name. Tensors lie anywhere that their elements are aligned,
    // with an innermost stride of 1 and any other strides. Inputs may overlap each other; outputs may share no
    // byte with anything, nor their elements with each other, and nothing may lie in the workspace. Tensors that share none but lie in
    // one another's gaps are taken if they are columns of one matrix (some pitch cuts both into parts that do not meet); an output's
    // strides must nest, each at least as long as what the smaller ones reach. Allocates nothing. Everything that can be wrong with the
    // arguments is found before the first write to them and before the first kernel starts; on a later failure the contents of the
    // outputs are unspecified.
    // A plan for a GPU takes tensors and a workspace in its memory, and a CUstream (null: the default stream) of the context
    // that was current when the plan was made, or else of the device's primary context. It only enqueues: what a kernel
    // finds wrong later, the stream reports. There, indices that are imposed are not checked but clamped.
    Status run(std::span<const NamedTensor> tensors, std::span<std::byte> workspace, void *stream = nullptr) const;
    Status run(std::initializer_list<NamedTensor> tensors, std::span<std::byte> workspace, void *stream = nullptr) const {
        return run(std::span<const NamedTensor>(tensors.begin(), tensors.size()), workspace, stream);
    }
    // The same, and calls `observer` with the number of every step that has ended (on a GPU: that is enqueued): for
    // profiles. It must not throw.
    using Observer = std::function<void(size_t step)>;
    Status run(std::span<const NamedTensor> tensors, std::span<std::byte> workspace, const Observer &observer, void *stream = nullptr) const;
    // With a workspace of its own: convenient, allocates, and waits for a GPU.
    Status run(std::span<const NamedTensor> tensors) const;
    Status run(std::initializer_list<NamedTensor> tensors) const {
        return run(std::span<const NamedTensor>(tensors.begin(), tensors.size()));
    }
    // Records a run on a GPU with these tensors and this workspace; runs nothing.
    Result<Graph> graph(std::span<const NamedTensor> tensors, std::span<std::byte> workspace) const;
    Result<Graph> graph(std::initializer_list<NamedTensor> tensors, std::span<std::byte> workspace) const {
        return graph(std::span<const NamedTensor>(tensors.begin(), tensors.size()), workspace);
    }

    static constexpr size_t kWorkspaceAlignment = 64;
    // What a call of run() may take of the calling thread's stack, on the CPU, whatever the layer and its sizes. At most 94,552 bytes
    // were measured (process_tests --gtest_filter='Stack.*', with AVX-512 and AMX); the rest, over a third of that, is a margin
    // for other compilers and rows.
    static constexpr size_t kStackBytes = size_t{128} << 10;

private:
    friend class PlanBuilder;
    explicit Plan(std::shared_ptr<const PlanImpl> impl);
    std::shared_ptr<const PlanImpl> impl_;
};

}  // namespace moa
