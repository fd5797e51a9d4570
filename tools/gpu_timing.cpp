#include "tools/gpu_timing.h"

#include <algorithm>
#include <chrono>
#include <vector>

namespace moa::tools {

namespace {

constexpr double kBatchSeconds = 0.01;
constexpr int kMostInBatch = 2000;

Timing timing_of(const std::vector<double> &seconds) {
    return {median_of(seconds), *std::min_element(seconds.begin(), seconds.end()), static_cast<int>(seconds.size())};
}

}  // namespace

Result<std::unique_ptr<GpuTimer>> GpuTimer::create(std::shared_ptr<const cuda::Context> context) {
    constexpr unsigned kNonBlocking = 1;
    std::unique_ptr<GpuTimer> timer(new GpuTimer(std::move(context)));
    const cuda::Driver &driver = timer->context_->driver();
    const cuda::Current current(*timer->context_);
    Status status = current.status();
    status = status.ok() ? timer->check(driver.stream_create(&timer->stream_, kNonBlocking), "cuStreamCreate") : status;
    status = status.ok() ? timer->check(driver.event_create(&timer->begin_, 0), "cuEventCreate") : status;
    status = status.ok() ? timer->check(driver.event_create(&timer->end_, 0), "cuEventCreate") : status;
    return status.ok() ? Result<std::unique_ptr<GpuTimer>>(std::move(timer)) : Result<std::unique_ptr<GpuTimer>>(status);
}

GpuTimer::~GpuTimer() {
    const cuda::Current current(*context_);
    for (void *event : {begin_, end_}) {
        if (event != nullptr) {
            context_->driver().event_destroy(event);
        }
    }
    if (stream_ != nullptr) {
        context_->driver().stream_destroy(stream_);
    }
}

Status GpuTimer::wait() const {
    const cuda::Current current(*context_);
    return check(context_->driver().stream_synchronize(stream_), "cuStreamSynchronize");
}

Result<double> GpuTimer::batch(int count, const std::function<Status()> &enqueue) const {
    const cuda::Driver &driver = context_->driver();
    float milliseconds = 0;
    Status status = check(driver.event_record(begin_, stream_), "cuEventRecord");
    for (int i = 0; status.ok() && i < count; i++) {
        status = enqueue();
    }
    status = status.ok() ? check(driver.event_record(end_, stream_), "cuEventRecord") : status;
    status = status.ok() ? check(driver.event_synchronize(end_), "cuEventSynchronize") : status;
    status = status.ok() ? check(driver.event_elapsed(&milliseconds, begin_, end_), "cuEventElapsedTime") : status;
    return status.ok() ? Result<double>(static_cast<double>(milliseconds) / 1e3 / count) : Result<double>(status);
}

Result<Timing> GpuTimer::measure(const TimingOptions &options, const std::function<Status()> &enqueue) const {
    const cuda::Current current(*context_);
    Result<double> once = batch(1, enqueue);  // warms up
    once = once.ok() ? batch(3, enqueue) : once;
    if (!once.ok()) {
        return once.status();
    }
    const int count = std::clamp(static_cast<int>(kBatchSeconds / std::max(*once, 1e-7)), 1, kMostInBatch);
    std::vector<double> seconds;
    double total = 0;
    while (static_cast<int>(seconds.size()) < options.min_runs || total < options.min_seconds) {
        const Result<double> mean = batch(count, enqueue);
        if (!mean.ok()) {
            return mean.status();
        }
        seconds.push_back(*mean);
        total += *mean * count;
    }
    return timing_of(seconds);
}

Result<Timing> GpuTimer::measure_host(const TimingOptions &options, const std::function<Status()> &enqueue) const {
    using Clock = std::chrono::steady_clock;
    constexpr int kCalls = 20;  // far less than the driver's queue holds
    std::vector<double> seconds;
    for (int run = 0; run <= options.min_runs; run++) {
        const auto begin = Clock::now();
        for (int i = 0; i < kCalls; i++) {
            if (Status status = enqueue(); !status) {
                return status;
            }
        }
        const double took = std::chrono::duration<double>(Clock::now() - begin).count() / kCalls;
        if (Status status = wait(); !status) {
            return status;
        }
        if (run > 0) {
            seconds.push_back(took);
        }
    }
    return timing_of(seconds);
}

Result<double> GpuTimer::copy_bandwidth() const {
    constexpr size_t kBytes = size_t{512} << 20;
    const Result<std::shared_ptr<cuda::DeviceMemory>> from = cuda::DeviceMemory::allocate(context_, kBytes), to = cuda::DeviceMemory::allocate(context_, kBytes);
    if (!from.ok() || !to.ok()) {
        return from.ok() ? to.status() : from.status();
    }
    const auto address = [](const auto &memory) { return reinterpret_cast<cuda::Address>((*memory)->data()); };
    const Result<Timing> timing = measure({5, 0.02}, [&] { return check(context_->driver().copy(address(to), address(from), kBytes, stream_), "cuMemcpyDtoDAsync"); });
    return timing.ok() ? Result<double>(2.0 * kBytes / timing->min) : Result<double>(timing.status());
}

}  // namespace moa::tools
