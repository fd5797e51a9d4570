#pragma once

#include <optional>

namespace moa::tools {

// The largest resident memory of this process so far, in MB of 2^20 bytes.
double peak_rss_mb();

// By how much resident memory grew since a moment: what something took, and not what the process held before.
class MemoryGrowth {
public:
    MemoryGrowth();

    // Since construction, of what is still held.
    double held_mb() const;
    // The most since construction; none where the kernel does not let a process reset its peak.
    std::optional<double> most_mb() const;

private:
    double start_mb_;
    bool peak_is_reset_;
};

}  // namespace moa::tools
