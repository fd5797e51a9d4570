#pragma once

#include "moa/huge_pages.h"
#include "moa/plan.h"
#include "moa/status.h"

#include <cstddef>
#include <functional>
#include <memory>
#include <new>
#include <span>
#include <vector>

namespace moa::tools {

struct Timing {
    double median = 0, min = 0;  // seconds
    int runs = 0;
};

// Enough runs for a median, and enough time for the machine to settle.
struct TimingOptions {
    int min_runs = 5;
    double min_seconds = 0.5;
    std::function<void(int runs)> progress{};  // called before every run with those that have ended, outside of what is timed
};

double median_of(std::vector<double> values);  // of at least one

// Runs once to warm up, then until both minima are reached. The first failure ends it.
Result<Timing> measure(const TimingOptions &options, const std::function<Status()> &run);

// Uninitialised memory with the alignment of a workspace.
class Memory {
public:
    explicit Memory(size_t bytes)
        : bytes_(bytes), memory_(new (kAlignment) std::byte[bytes]) {
        prefer_huge_pages(span());
    }
    std::span<std::byte> span() const {
        return {memory_.get(), bytes_};
    }

private:
    static constexpr std::align_val_t kAlignment{Plan::kWorkspaceAlignment};
    struct Free {
        void operator()(std::byte *memory) const {
            ::operator delete[](memory, kAlignment);
        }
    };
    size_t bytes_;
    std::unique_ptr<std::byte[], Free> memory_;
};

}  // namespace moa::tools
