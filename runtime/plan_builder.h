#pragma once

#include "moa/plan.h"
#include "runtime/cuda/context.h"
#include "runtime/float_environment.h"
#include "runtime/ops.h"
#include "runtime/prepared_linear.h"
#include "runtime/run.h"
#include "runtime/view.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace moa {

// A tensor of a plan: an argument, a temporary in the workspace, or a constant that the plan owns.
struct Handle {
    int index = -1;

    explicit operator bool() const {
        return index >= 0;
    }
};

// Of memory in a workspace.
inline size_t rounded(size_t bytes) {
    return (bytes + Plan::kWorkspaceAlignment - 1) / Plan::kWorkspaceAlignment * Plan::kWorkspaceAlignment;
}

// What a step sees of a run. While a plan is made, steps are asked for their arguments over a frame without memory:
// the shapes decide on rows, and the handles that a step touches decide how long temporaries live.
class Frame {
public:
    Frame(const PlanImpl &plan, Run *run, std::byte *workspace, const TensorView *arguments, std::vector<int> *touched);

    View operator[](Handle handle) const;
    // The same frame, without memory, in which an argument begins at no multiple of more than its elements' size, and its strides
    // are odd.
    Frame misaligned(int argument) const {
        Frame frame = *this;
        frame.misaligned_ = argument;
        return frame;
    }
    bool bound(Handle handle) const;  // false: an optional argument that the caller left out
    Run &run() const {
        return *run_;
    }
    // For work without a kernel: whether it is a GPU's. Then copies and fills go to the run's stream.
    bool on_gpu() const {
        return run_->context() != nullptr;
    }
    Status copy(const View &from, const View &to) const;
    Status fill(const View &to, float value) const;

private:
    const PlanImpl &plan_;
    Run *run_;
    std::byte *workspace_;
    const TensorView *arguments_;
    std::vector<int> *touched_;
    int misaligned_ = -1;
};

struct PlanImpl {
    struct Tensor {
        enum class Kind : uint8_t { argument,
                                    temporary,
                                    constant };
        explicit Tensor(Kind tensor_kind)
            : kind(tensor_kind) {
        }
        Kind kind;
        int argument = -1;
        int same_as = -1;  // a temporary whose memory this one shares, under another shape
        View view;         // dense, but for parts of others; of constants with memory
        size_t offset = 0;
        size_t part = 0;  // bytes between the beginnings of the owner and of this
        size_t bytes = 0;
        int first_use = -1, last_use = -1;  // steps; temporaries
    };
    static constexpr size_t kMaxArguments = 24;
    using Action = std::function<Status(const Frame &)>;
    // What a step works on, for whoever runs steps side by side.
    struct Use {
        std::vector<int> tensors;                      // owners of memory
        size_t scratch_offset = 0, scratch_bytes = 0;  // on a GPU: its own part of the scratch
        std::vector<int> after;                        // on a GPU: earlier steps that must have ended, but for those that these wait for
    };

    // Memory of the workspace for an argument of a GPU's plan that does not lie where the rows of its steps can take it. Nothing
    // else is there between the copy from or to the argument and its use, if the steps run one after another.
    struct StandIn {
        int argument = -1;
        size_t offset = 0, bytes = 0;
        int first_use = -1, last_use = -1;  // steps
    };

    std::vector<Plan::Argument> arguments;
    std::vector<StandIn> stand_ins;
    std::vector<Tensor> tensors;
    std::vector<Action> checks;  // of values that the host may read, before the first step; they may write to the workspace
    std::vector<Action> actions;
    std::vector<Use> uses;  // by step
    std::vector<Plan::Step> steps;
    std::vector<std::shared_ptr<const void>> kept;  // weights and constants
    Device device;
    DeviceDescription description;
    std::shared_ptr<const cuda::Context> context;  // of a GPU; null: the cpu
    int threads = 1;
    size_t temporary_bytes = 0;
    size_t scratch_bytes = 0;  // of all threads of the step that wants most
};

// Decides where the steps of a run on a GPU go.
class StepStreams {
public:
    virtual ~StepStreams() = default;
    virtual Result<void *> begin(size_t step) = 0;  // the step's stream
    virtual Status end(size_t step) = 0;
    virtual void one_after_another() = 0;  // before the first: all steps go to one stream
};

// The stand-ins that a run needs. `bound`, by argument, is what the steps shall see: tensors that rows cannot take are replaced.
class StandIns {
public:
    StandIns(const PlanImpl &plan, std::span<TensorView> bound, std::span<std::byte> workspace);

    bool any() const {
        return count_ > 0;
    }
    Status copy_inputs(void *stream) const;
    Status copy_outputs(void *stream) const;

private:
    static constexpr size_t kMost = 24;
    struct Pair {
        int argument = -1;
        TensorView given{}, stand_in{};
    };
    Status copy(bool outputs, void *stream) const;

    const PlanImpl &plan_;
    std::array<Pair, kMost> pairs_;
    size_t count_ = 0;
};

// Plan::run with streams of one's own choice; plans of GPUs only.
Status run_on_streams(const PlanImpl &plan, std::span<const NamedTensor> tensors, std::span<std::byte> workspace, StepStreams &streams);

// Strings operations together to a plan. The first failure sticks and comes back from finish(): from then on nothing is computed,
// allocated or added, and handles are none.
class PlanBuilder {
public:
    explicit PlanBuilder(const PlanOptions &options);

    // Shapes are outermost first here, as in the public headers; frames give views innermost first. None of more than 2^31 - 1
    // elements, sizes of 0 counted as 1, so that counts of rows and products of sizes are small numbers, too.
    Handle input(std::string name, DType dtype, std::vector<int64_t> shape);
    Handle output(std::string name, DType dtype, std::vector<int64_t> shape, bool optional = false);
    Handle temporary(DType dtype, std::vector<int64_t> shape);
    Handle reshape(Handle temporary, const std::vector<int64_t> &shape);
    // The same memory with an axis, at a place counted from the innermost, along which all are the same.
    Handle insert(Handle temporary, int axis, int64_t extent = 1);
    // Part of a temporary: [begin, begin + extent) of an axis, counted from the innermost.
    Handle crop(Handle temporary, int axis, int64_t begin, int64_t extent);
    // Values that a layer keeps.
    Handle constant(std::shared_ptr<const std::vector<float>> values, const std::vector<int64_t> &shape);
    // Values of the plan's own, computed once their shape is known to be one that fits.
    Handle table(std::string_view name, const std::vector<int64_t> &shape, const std::function<std::vector<float>()> &make);
    // 0, 1, ...
    Handle ramp(const std::vector<int64_t> &shape);

    // Whether kernels index a tensor of that shape; else the plan fails.
    bool fits(std::string_view name, const std::vector<int64_t> &shape);

    void fail(Status status);
    bool ok() const {
        return status_.ok();
    }
    const Status &status() const {
        return status_;
    }
    DType dtype() const {
        return options_.dtype;
    }
    Precision precision() const {
        return options_.precision;
    }
    bool on_gpu() const {
        return plan_->context != nullptr;
    }
    void keep(std::shared_ptr<const void> owner);

    // One launch. `make(frame)` gives the operation's arguments, `extra` what its problem() wants besides.
    template<class Make, class... Extra>
    void step(const std::string &name, Make make, Extra... extra) {
        add_step(
            name, Handle(), 1, [make = std::move(make)](const Frame &f, int64_t) { return make(f); }, extra...);
    }
    // `count` launches that differ in where they read and write alone: `make(frame, index)`. One step, so that making a plan takes
    // no longer for more of them.
    template<class Make, class... Extra>
    void repeated_step(const std::string &name, int64_t count, Make make, Extra... extra) {
        add_step(name, Handle(), count, std::move(make), extra...);
    }
    // The same for what only an optional output needs: nothing happens if the caller leaves it out.
    template<class Make>
    void optional_step(const std::string &name, Handle output, int64_t count, Make make) {
        add_step(name, output, count, std::move(make));
    }
    // Whether the device has a row for an operation with these arguments.
    template<class Make>
    bool has_row(Make make) const {
        return ok() && find_row(ops::problem(make(dry_frame(nullptr))), launch_of(make)).ok();
    }
    // A product: weights, column sums and bias of experts [first, first + count) are filled in. count 0: all.
    void project(const std::string &name, const std::shared_ptr<const PreparedLinear> &linear, const std::function<ops::Project(const Frame &)> &make,
                 int64_t first = 0, int64_t count = 0);
    // Work without a kernel: copies of arguments and index widening on the host, copies and fills on a GPU.
    void host(std::string name, std::initializer_list<Handle> uses, PlanImpl::Action action);
    // Refuses values of arguments. Every check comes before all steps; until then temporaries that steps use are free.
    void check(PlanImpl::Action check);

    // Shapes of tensors, without memory.
    Frame shapes() const {
        return dry_frame(nullptr);
    }
    Result<Plan> finish();

private:
    // A launch of a row with the arguments that a frame gives.
    using Launch = std::function<Status(Run &, const Row &, const Frame &)>;

    template<class Make>
    static Launch launch_of(const Make &make) {
        return [make](Run &run, const Row &row, const Frame &f) { return ops::run(run, row, make(f)); };
    }
    // output: if there is one, the step does nothing unless it is bound.
    template<class Make, class... Extra>
    void add_step(const std::string &name, Handle output, int64_t count, Make make, Extra... extra) {
        if (!ok() || count == 0) {
            return;
        }
        std::vector<int> touched;
        const Problem problem = ops::problem(make(dry_frame(&touched), 0), extra...);
        const auto first = [&](const Frame &f) { return make(f, 0); };
        if (const Row *row = choose(name, problem, touched, launch_of(first))) {
            plan_->steps.back().launches *= static_cast<int>(count);
            share_out(*row, make(dry_frame(nullptr), 0));
            add(touched, [make = std::move(make), row, output, count](const Frame &f) {
                Status status;
                for (int64_t index = 0; index < count && status.ok() && (!output || f.bound(output)); index++) {
                    status = ops::run(f.run(), *row, make(f, index));
                }
                return status;
            });
        }
    }
    Frame dry_frame(std::vector<int> *touched) const;
    // The first row that accepts the problem and whose rehearsal with the launch's arguments succeeds.
    Result<Choice> find_row(Problem problem, const Launch &launch) const;
    // That row for the next step. On a GPU it is loaded, and what it takes is found out.
    const Row *choose(const std::string &name, const Problem &problem, const std::vector<int> &touched, const Launch &launch);
    Status load(const Row &row, const Launch &launch, Plan::Step &step);
    void note_alignment(const Row &row, const std::vector<int> &touched, const Launch &launch);
    void open_gpu();
    void add(const std::vector<int> &touched, PlanImpl::Action action);
    void use_cpu(int threads, size_t scratch_bytes_per_thread);
    void place_scratch();
    void place_stand_ins();
    void order_steps();
    // On the CPU: how many threads a step pays for, and the scratch of these.
    template<class Arguments>
    void share_out(const Row &row, const Arguments &arguments) {
        if (!on_gpu()) {
            use_cpu(ops::threads_for(row, ops::work(arguments), plan_->threads), ops::scratch_bytes(row, arguments));
        }
    }
    Handle constant(std::shared_ptr<const void> owner, const void *values, DType dtype, const std::vector<int64_t> &shape);
    Handle add(const PlanImpl::Tensor &tensor);
    Handle part_of(Handle temporary, const std::function<void(PlanImpl::Tensor &)> &change);
    void check_forced_rows();
    void check_forced_steps();
    void place_temporaries();

    FloatEnvironment floats_;  // for what plans compute: tables, packed weights
    PlanOptions options_;
    DeviceDescription device_;
    std::shared_ptr<PlanImpl> plan_;
    size_t scratch_of_step_ = 0;  // on a GPU: of the next step
    Status status_;
};

}  // namespace moa
