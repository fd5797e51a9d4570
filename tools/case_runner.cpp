#include "tools/case_runner.h"

#include <chrono>
#include <utility>

namespace moa::tools {

namespace {

using Clock = std::chrono::steady_clock;
using workloads::LayerInstance;

double seconds_since(Clock::time_point begin) {
    return std::chrono::duration<double>(Clock::now() - begin).count();
}

// Of each step's times but the first, which warmed up.
std::vector<double> medians_of(std::vector<std::vector<double>> seconds) {
    std::vector<double> medians;
    for (std::vector<double> &times : seconds) {
        times.erase(times.begin());
        medians.push_back(median_of(std::move(times)));
    }
    return medians;
}

class CpuRunner : public CaseRunner {
public:
    CpuRunner(LayerInstance &instance, Plan plan)
        : CaseRunner(instance, std::move(plan)), workspace_(plan_.workspace_bytes()) {
    }

    Status run() override {
        return plan_.run(instance_.tensors(), workspace_.span());
    }
    Result<Timing> measure(const TimingOptions &options) override {
        return tools::measure(options, [&] { return run(); });
    }
    Result<std::vector<double>> profile(const TimingOptions &options) override {
        std::vector<std::vector<double>> seconds(plan_.steps().size());
        const auto once = [&] {
            auto last = Clock::now();
            return plan_.run(instance_.tensors(), workspace_.span(), [&](size_t step) {
                seconds[step].push_back(seconds_since(last));
                last = Clock::now();
            });
        };
        const Result<Timing> whole = tools::measure(options, once);
        return whole.ok() ? Result<std::vector<double>>(medians_of(std::move(seconds))) : Result<std::vector<double>>(whole.status());
    }

private:
    Memory workspace_;
};

// Tensors are copies on the GPU; whole runs are timed as replays of a graph.
class GpuRunner : public CaseRunner {
public:
    GpuRunner(LayerInstance &instance, Plan plan)
        : CaseRunner(instance, std::move(plan)) {
    }

    Status prepare() {
        std::vector<std::span<std::byte>> blocks;
        for (const NamedTensor &named : instance_.tensors()) {
            blocks.push_back(cuda::span_of(named.tensor));
        }
        Result<cuda::Mirrors> mirrors = cuda::Mirrors::of(plan_.device(), blocks);
        if (!mirrors.ok()) {
            return mirrors.status();
        }
        mirrors_ = std::make_unique<cuda::Mirrors>(*std::move(mirrors));
        for (size_t i = 0; i < blocks.size(); i++) {
            NamedTensor copy = instance_.tensors()[i];
            copy.tensor.data = mirrors_->list()[i].copy;
            copy.tensor.device = plan_.device();
            tensors_.push_back(copy);
        }
        const auto context = mirrors_->context().shared_from_this();
        Result<std::shared_ptr<cuda::DeviceMemory>> workspace = cuda::DeviceMemory::allocate(context, plan_.workspace_bytes());
        Result<std::unique_ptr<GpuTimer>> timer = GpuTimer::create(context);
        if (!workspace.ok() || !timer.ok()) {
            return workspace.ok() ? timer.status() : workspace.status();
        }
        workspace_ = std::move(*workspace);
        timer_ = std::move(*timer);
        return mirrors_->upload_all();
    }

    Status run() override {
        Status status = mirrors_->upload_all();
        status = status.ok() ? enqueue() : status;
        status = status.ok() ? timer_->wait() : status;
        for (size_t i = 0; status.ok() && i < tensors_.size(); i++) {
            status = mirrors_->download(i);
        }
        return status;
    }
    Result<Timing> measure(const TimingOptions &options) override {
        const Result<Graph> graph = plan_.graph(tensors_, memory());
        if (!graph.ok()) {
            return graph.status();
        }
        launches_ = graph->nodes();
        return timer_->measure(options, [&] { return graph->launch(timer_->stream()); });
    }
    size_t launches() const override {
        return launches_;
    }
    Result<double> launch_seconds(const TimingOptions &options) override {
        const Result<Timing> timing = timer_->measure_host(options, [&] { return enqueue(); });
        return timing.ok() ? Result<double>(timing->median) : Result<double>(timing.status());
    }
    // Steps one by one, with what it costs to launch each on its own.
    Result<std::vector<double>> profile(const TimingOptions &options) override {
        std::vector<std::vector<double>> seconds(plan_.steps().size());
        for (int run = 0; run <= options.min_runs; run++) {
            Status waited;
            auto last = Clock::now();
            const Status status = plan_.run(
                tensors_, memory(), [&](size_t step) {
                    waited = waited.ok() ? timer_->wait() : waited;
                    seconds[step].push_back(seconds_since(last));
                    last = Clock::now();
                },
                timer_->stream());
            if (!status.ok() || !waited.ok()) {
                return status.ok() ? waited : status;
            }
        }
        return medians_of(std::move(seconds));
    }

private:
    std::span<std::byte> memory() const {
        return {workspace_->data(), workspace_->size()};
    }
    Status enqueue() const {
        return plan_.run(tensors_, memory(), timer_->stream());
    }

    std::unique_ptr<cuda::Mirrors> mirrors_;
    std::vector<NamedTensor> tensors_;
    std::shared_ptr<cuda::DeviceMemory> workspace_;
    std::unique_ptr<GpuTimer> timer_;
    size_t launches_ = 0;
};

}  // namespace

Result<std::unique_ptr<CaseRunner>> CaseRunner::make(LayerInstance &instance, Plan plan) {
    if (plan.device().type == DeviceType::cpu) {
        return std::unique_ptr<CaseRunner>(std::make_unique<CpuRunner>(instance, std::move(plan)));
    }
    auto runner = std::make_unique<GpuRunner>(instance, std::move(plan));
    Status status = runner->prepare();
    return status.ok() ? Result<std::unique_ptr<CaseRunner>>(std::unique_ptr<CaseRunner>(std::move(runner))) : Result<std::unique_ptr<CaseRunner>>(status);
}

}  // namespace moa::tools
