#include "workloads/report.h"

#include "runtime/text.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace moa::workloads {

std::string index_text(const Extents &extents, int64_t place) {
    std::vector<int64_t> index;
    for (const int64_t extent : extents) {
        index.push_back(place % extent);
        place /= extent;
    }
    return text_of(index);
}

namespace {

// Error as a multiple of the tolerance; infinite where the two numbers are of different kinds.
double badness(double got, double want, double bound) {
    constexpr double kWrong = std::numeric_limits<double>::infinity();
    if (bound == kOpen || got == want) {
        return 0;
    }
    if (!std::isfinite(want)) {
        const bool same = std::isnan(bound) ? !std::isfinite(got) : std::isnan(got) && std::isnan(want);
        return same ? 0 : kWrong;
    }
    return std::isfinite(got) && bound != 0 ? std::fabs(got - want) / bound : kWrong;
}

double badness_of(const Report &report) {
    if (report.error == 0) {
        return 0;
    }
    return badness(report.got, report.want, report.tolerance);
}

}  // namespace

Report compare(const Tensor &output, const Expected &expected) {
    const Array values = output.values();
    Report report;
    report.output = output.name();
    report.broken_guard_bytes = output.broken_guard_bytes();
    double worst = -1;
    int64_t zeros = 0;
    const auto elements = static_cast<int64_t>(values.data.size());
    for (int64_t place = 0; place < elements; place++) {
        const double got = values.data[place], want = expected.value.data[place],
                     bound = expected.bound.data[place];
        const double bad = badness(got, want, bound);
        const bool open = bound == kOpen || std::isinf(bound);
        report.checked += open ? 0 : 1;
        zeros += want == 0 && !open ? 1 : 0;
        report.wrong += bad > 1 ? 1 : 0;
        report.nan_mismatches += bad > 1 && std::isfinite(got) != std::isfinite(want) ? 1 : 0;
        if (bad > worst) {
            worst = bad;
            report.got = got;
            report.want = want;
            report.tolerance = bound;
            report.error = got == want ? 0 : std::fabs(got - want);
            report.index = index_text(values.extents, place);
        }
    }
    report.elements = elements;
    report.zeros = elements == 0 ? 0 : static_cast<double>(zeros) / static_cast<double>(elements);
    return report;
}

Report worse(const Report &a, const Report &b) {
    const bool second = badness_of(b) > badness_of(a) || b.wrong > a.wrong;
    Report result = second ? b : a;
    result.wrong = a.wrong + b.wrong;
    result.nan_mismatches = a.nan_mismatches + b.nan_mismatches;
    result.elements = a.elements + b.elements;
    result.checked = a.checked + b.checked;
    result.broken_guard_bytes = a.broken_guard_bytes + b.broken_guard_bytes;
    result.zeros = std::max(a.zeros, b.zeros);
    return result;
}

std::string Report::describe() const {
    std::string result = text("{}: error {:.3g} of tolerance {:.3g} at {} (got {:.9g}, want {:.9g})", output,
                              error, tolerance, index, got, want);
    if (wrong > 0) {
        result += text("; {} elements are wrong, {} of them NaN or infinite on one side only", wrong,
                       nan_mismatches);
    }
    if (broken_guard_bytes > 0) {
        result += text("; {} bytes outside of the output were written", broken_guard_bytes);
    }
    if (mostly_zero()) {
        result += text("; {:.0f} % of the expected values are zero", 100 * zeros);
    }
    return result;
}

}  // namespace moa::workloads
