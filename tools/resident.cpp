#include "tools/resident.h"

#include <fstream>
#include <malloc.h>
#include <string>
#include <sys/resource.h>

namespace moa::tools {

namespace {

// A line of /proc/self/status, which is in kB; 0 without it.
double status_mb(const std::string &name) {
    std::ifstream file("/proc/self/status");
    for (std::string line; std::getline(file, line);) {
        if (line.starts_with(name + ":")) {
            return std::stod(line.substr(name.size() + 1)) / 1024;
        }
    }
    return 0;
}

// What was freed goes back to the kernel first, so that it does not count as held.
double resident_mb() {
    malloc_trim(0);
    return status_mb("VmRSS");
}

}  // namespace

double peak_rss_mb() {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    return static_cast<double>(usage.ru_maxrss) / 1024;
}

MemoryGrowth::MemoryGrowth()
    : start_mb_(resident_mb()) {
    std::ofstream file("/proc/self/clear_refs");
    file << 5 << std::flush;  // VmHWM becomes VmRSS: man 5 proc
    peak_is_reset_ = file.good();
}

double MemoryGrowth::held_mb() const {
    return resident_mb() - start_mb_;
}

std::optional<double> MemoryGrowth::most_mb() const {
    return peak_is_reset_ ? std::optional<double>(status_mb("VmHWM") - start_mb_) : std::nullopt;
}

}  // namespace moa::tools
