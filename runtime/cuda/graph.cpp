#include "moa/plan.h"

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
constexpr unsigned kNonBlocking = 1;

// A stream for the time of a recording.
struct Recorder {
    explicit Recorder(const cuda::Driver &functions)
        : driver(functions) {
    }
    ~Recorder() {
        if (graph != nullptr) {
            driver.graph_destroy(graph);
        }
        if (stream != nullptr) {
            driver.stream_destroy(stream);
        }
    }
    Recorder(const Recorder &) = delete;
    Recorder &operator=(const Recorder &) = delete;

    template<class Enqueue>
    Status record(Enqueue enqueue) {
        Status status = cuda::status_of(driver, driver.stream_create(&stream, kNonBlocking), "cuStreamCreate");
        if (!status.ok()) {
            return status;
        }
        status = cuda::status_of(driver, driver.capture_begin(stream, kThreadLocal), "cuStreamBeginCapture");
        if (!status.ok()) {
            return status;
        }
        status = enqueue(stream);
        const Status ended = cuda::status_of(driver, driver.capture_end(stream, &graph), "cuStreamEndCapture");
        return status.ok() ? ended : status;
    }

    const cuda::Driver &driver;
    void *stream = nullptr, *graph = nullptr;
};

}  // namespace

Graph::Graph(std::shared_ptr<const Impl> impl)
    : impl_(std::move(impl)) {
}

Result<Graph> Plan::graph(std::span<const NamedTensor> tensors, std::span<std::byte> workspace) const {
    if (impl_->context == nullptr) {
        return Status(Code::unsupported, text("a plan for {} has no graph", name_of(impl_->device)));
    }
    const cuda::Current current(*impl_->context);
    if (!current.status().ok()) {
        return current.status();
    }
    const cuda::Driver &driver = impl_->context->driver();
    Recorder recorder(driver);
    Status status = recorder.record([&](void *stream) { return run(tensors, workspace, stream); });
    auto impl = std::make_shared<Graph::Impl>();
    impl->plan = impl_;
    if (status.ok()) {
        status = cuda::status_of(driver, driver.graph_nodes(recorder.graph, nullptr, &impl->nodes), "cuGraphGetNodes");
    }
    if (status.ok()) {
        status = cuda::status_of(driver, driver.graph_instantiate(&impl->executable, recorder.graph, 0), "cuGraphInstantiate");
    }
    return status.ok() ? Result<Graph>(Graph(std::move(impl))) : Result<Graph>(status);
}

Status Graph::launch(void *stream) const {
    const cuda::Context &context = *impl_->plan->context;
    const cuda::Current current(context);
    return current.status().ok() ? cuda::status_of(context.driver(), context.driver().graph_launch(impl_->executable, stream), "cuGraphLaunch") : current.status();
}

size_t Graph::nodes() const {
    return impl_->nodes;
}

}  // namespace moa
