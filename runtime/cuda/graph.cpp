#include "moa/plan.h"

#include "runtime/caught.h"
#include "runtime/cuda/memory.h"
#include "runtime/plan_builder.h"
#include "runtime/text.h"

namespace moa {

struct Graph::Impl {
    std::shared_ptr<const PlanImpl> plan;
    void *executable = nullptr;
    size_t nodes = 0;

    ~Impl() {
        const cuda::Current current(*plan->context);
        if (executable != nullptr && current.status().ok()) {
            plan->context->driver().executable_destroy(executable);
        }
    }
};

namespace {

constexpr int kThreadLocal = 1;  // CU_STREAM_CAPTURE_MODE_THREAD_LOCAL: other threads may do as they please meanwhile
constexpr unsigned kNonBlocking = 1, kNoTiming = 2;
constexpr size_t kStreams = 4;

// Records the steps of a run as a graph in which steps that do not need each other stand side by side: a step follows one of those
// that it waits for on that one's stream, and waits for the events of the others.
class Recorder final : public StepStreams {
public:
    Recorder(const cuda::Driver &functions, const PlanImpl &recorded)
        : driver_(functions), plan_(recorded), latest_(kStreams, kNone) {
    }
    ~Recorder() override {
        if (graph_ != nullptr) {
            driver_.graph_destroy(graph_);
        }
        for (void *event : events_) {
            driver_.event_destroy(event);
        }
        for (void *stream : streams_) {
            driver_.stream_destroy(stream);
        }
    }
    Recorder(const Recorder &) = delete;
    Recorder &operator=(const Recorder &) = delete;

    Status record(std::span<const NamedTensor> tensors, std::span<std::byte> workspace) {
        Status status = prepare();
        if (!status.ok()) {
            return status;
        }
        status = check(driver_.capture_begin(streams_[0], kThreadLocal), "cuStreamBeginCapture");
        if (!status.ok()) {
            return status;
        }
        status = record_steps(tensors, workspace);
        const Status ended = check(driver_.capture_end(streams_[0], &graph_), "cuStreamEndCapture");
        return status.ok() ? ended : status;
    }

    void one_after_another() override {
        serial_ = true;
    }

    Result<void *> begin(size_t step) override {
        if (serial_) {
            return streams_[0];
        }
        const std::vector<int> &after = plan_.uses[step].after;
        current_ = choose(after);
        void *stream = streams_[current_];
        Status status;
        if (latest_[current_] == kNone && current_ != 0) {
            status = wait(stream, begun());  // joins the recording
        }
        for (size_t i = 0; i < after.size() && status.ok(); i++) {
            status = latest_[current_] == after[i] ? Status() : wait(stream, events_[after[i]]);
        }
        return status.ok() ? Result<void *>(stream) : Result<void *>(status);
    }

    Status end(size_t step) override {
        if (serial_) {
            return {};
        }
        latest_[current_] = static_cast<int>(step);
        return check(driver_.event_record(events_[step], streams_[current_]), "cuEventRecord");
    }

    void *graph() const {
        return graph_;
    }

private:
    static constexpr int kNone = -1;

    // Whatever happens in here, the recording is ended after it.
    Status record_steps(std::span<const NamedTensor> tensors, std::span<std::byte> workspace) try {
        Status status = check(driver_.event_record(begun(), streams_[0]), "cuEventRecord");
        status = status.ok() ? run_on_streams(plan_, tensors, workspace, *this) : status;
        for (size_t stream = 1; stream < kStreams && status.ok(); stream++) {
            status = latest_[stream] == kNone ? Status() : wait(streams_[0], events_[latest_[stream]]);
        }
        return status;
    } catch (...) {
        return caught("Plan::graph");
    }
    Status check(cuda::Result_t result, std::string_view call) const {
        return cuda::status_of(driver_, result, call);
    }
    Status wait(void *stream, void *event) const {
        return check(driver_.stream_wait(stream, event, 0), "cuStreamWaitEvent");
    }
    void *begun() const {
        return events_.back();
    }
    // Streams, an event for the end of each step, and one for the beginning.
    Status prepare() {
        Status status;
        streams_.reserve(kStreams);  // nothing is lost for want of memory to note it
        events_.reserve(plan_.uses.size() + 1);
        for (size_t i = 0; i < kStreams && status.ok(); i++) {
            void *stream = nullptr;
            if (status = check(driver_.stream_create(&stream, kNonBlocking), "cuStreamCreate"); status.ok()) {
                streams_.push_back(stream);
            }
        }
        for (size_t i = 0; i <= plan_.uses.size() && status.ok(); i++) {
            void *event = nullptr;
            if (status = check(driver_.event_create(&event, kNoTiming), "cuEventCreate"); status.ok()) {
                events_.push_back(event);
            }
        }
        return status;
    }
    // A stream that ends with what the step waits for; else one that is unused; else any of its own past.
    size_t choose(const std::vector<int> &after) const {
        for (const int step : after) {
            for (size_t stream = 0; stream < kStreams; stream++) {
                if (latest_[stream] == step) {
                    return stream;
                }
            }
        }
        for (size_t stream = 0; stream < kStreams; stream++) {
            if (latest_[stream] == kNone) {
                return stream;
            }
        }
        return 0;
    }

    const cuda::Driver &driver_;
    const PlanImpl &plan_;
    std::vector<void *> streams_, events_;
    std::vector<int> latest_;  // by stream: its last step
    size_t current_ = 0;
    bool serial_ = false;
    void *graph_ = nullptr;
};

}  // namespace

Graph::Graph(std::shared_ptr<const Impl> impl)
    : impl_(std::move(impl)) {
}

Result<Graph> Plan::graph(std::span<const NamedTensor> tensors, std::span<std::byte> workspace) const try {
    if (impl_->context == nullptr) {
        return Status(Code::unsupported, text("a plan for {} has no graph", name_of(impl_->device)));
    }
    const cuda::Current current(*impl_->context);
    if (!current.status().ok()) {
        return current.status();
    }
    const cuda::Driver &driver = impl_->context->driver();
    Recorder recorder(driver, *impl_);
    Status status = recorder.record(tensors, workspace);
    auto impl = std::make_shared<Graph::Impl>();
    impl->plan = impl_;
    if (status.ok()) {
        status = cuda::status_of(driver, driver.graph_nodes(recorder.graph(), nullptr, &impl->nodes), "cuGraphGetNodes");
    }
    if (status.ok()) {
        status = cuda::status_of(driver, driver.graph_instantiate(&impl->executable, recorder.graph(), 0), "cuGraphInstantiate");
    }
    return status.ok() ? Result<Graph>(Graph(std::move(impl))) : Result<Graph>(status);
} catch (...) {
    return caught("Plan::graph");
}

Status Graph::launch(void *stream) const try {
    const cuda::Context &context = *impl_->plan->context;
    const cuda::Current current(context);
    return current.status().ok() ? cuda::status_of(context.driver(), context.driver().graph_launch(impl_->executable, stream), "cuGraphLaunch") : current.status();
} catch (...) {
    return caught("Graph::launch");
}

size_t Graph::nodes() const {
    return impl_->nodes;
}

}  // namespace moa
