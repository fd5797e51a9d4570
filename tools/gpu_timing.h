#pragma once

#include "runtime/cuda/memory.h"
#include "tools/timing.h"

#include <functional>
#include <memory>

namespace moa::tools {

// Times work on a GPU by its own clock, on a stream of its own.
class GpuTimer {
public:
    static Result<std::unique_ptr<GpuTimer>> create(std::shared_ptr<const cuda::Context> context);
    ~GpuTimer();
    GpuTimer(const GpuTimer &) = delete;
    GpuTimer &operator=(const GpuTimer &) = delete;

    void *stream() const {
        return stream_;
    }
    Status wait() const;
    // Seconds of one `enqueue`: batches of as many as fill a few milliseconds lie between two events, so that neither
    // launches nor clocks count. `runs` counts batches.
    Result<Timing> measure(const TimingOptions &options, const std::function<Status()> &enqueue) const;
    // Seconds of the host that one `enqueue` takes, while the GPU is kept waiting for nothing.
    Result<Timing> measure_host(const TimingOptions &options, const std::function<Status()> &enqueue) const;
    // Bytes read and written a second by the driver's own copies of more than any cache holds.
    Result<double> copy_bandwidth() const;

private:
    explicit GpuTimer(std::shared_ptr<const cuda::Context> context)
        : context_(std::move(context)) {
    }
    Status check(cuda::Result_t error, const char *call) const {
        return cuda::status_of(context_->driver(), error, call);
    }
    Result<double> batch(int count, const std::function<Status()> &enqueue) const;

    std::shared_ptr<const cuda::Context> context_;
    void *stream_ = nullptr, *begin_ = nullptr, *end_ = nullptr;
};

}  // namespace moa::tools
