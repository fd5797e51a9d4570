#include "tools/timing.h"

#include <algorithm>
#include <chrono>
#include <vector>

namespace moa::tools {

double median_of(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    const size_t middle = values.size() / 2;
    return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

Result<Timing> measure(const TimingOptions &options, const std::function<Status()> &run) {
    using Clock = std::chrono::steady_clock;
    const auto show = [&](size_t runs) {
        if (options.progress) {
            options.progress(static_cast<int>(runs));
        }
    };
    show(0);
    if (Status status = run(); !status) {
        return status;
    }
    std::vector<double> seconds;
    double total = 0;
    while (static_cast<int>(seconds.size()) < options.min_runs || total < options.min_seconds) {
        show(seconds.size());
        const auto begin = Clock::now();
        if (Status status = run(); !status) {
            return status;
        }
        seconds.push_back(std::chrono::duration<double>(Clock::now() - begin).count());
        total += seconds.back();
    }
    return Timing{median_of(seconds), *std::min_element(seconds.begin(), seconds.end()), static_cast<int>(seconds.size())};
}

}  // namespace moa::tools
