#include "tools/cases/compare.h"

#include "runtime/text.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace moa::tools {

namespace {

std::vector<int64_t> index_of(const std::vector<int64_t> &shape, size_t place) {
    std::vector<int64_t> index(shape.size());
    auto rest = static_cast<int64_t>(place);
    for (size_t axis = shape.size(); axis-- > 0;) {
        index[axis] = rest % shape[axis];
        rest /= shape[axis];
    }
    return index;
}

// Error by tolerance; infinite where one side is NaN or infinite and the other not.
double badness(double got, double want, double tolerance) {
    if (got == want || (std::isnan(got) && std::isnan(want))) {
        return 0;
    }
    const double error = std::fabs(got - want);
    return std::isfinite(error) && tolerance > 0 ? error / tolerance : std::numeric_limits<double>::infinity();
}

class Reporter {
public:
    Reporter(std::string name, const std::vector<int64_t> &shape)
        : shape_(shape) {
        report.name = std::move(name);
    }
    void add(double got, double want, double tolerance) {
        const double bad = badness(got, want, tolerance);
        report.wrong += bad > 1 ? 1 : 0;
        report.nan_mismatches += std::isfinite(got) != std::isfinite(want) && bad > 1 ? 1 : 0;
        if (bad > worst_) {
            worst_ = bad;
            report.got = got;
            report.want = want;
            report.tolerance = tolerance;
            report.error = bad == 0 ? 0 : std::fabs(got - want);
            report.index = index_of(shape_, static_cast<size_t>(report.elements));
        }
        report.elements++;
    }

    OutputReport report;

private:
    const std::vector<int64_t> &shape_;
    double worst_ = -1;
};

}  // namespace

std::string OutputReport::describe() const {
    std::string result = text("{}: error {:.3g} of tolerance {:.3g}", name, error, tolerance);
    if (wrong > 0) {
        result += text(" at {} (got {:.9g}, want {:.9g}); {} of {} elements are wrong", text_of(index), got, want, wrong, elements);
    }
    return nan_mismatches > 0 ? result + text(", {} of them NaN or infinite on one side only", nan_mismatches) : result;
}

std::vector<double> tolerances(const HostTensor &want, double roundoff, const Roundings &r) {
    std::vector<double> result(want.size());
    const size_t row = want.shape().empty() || want.size() == 0 ? 1 : static_cast<size_t>(want.shape().back());
    const double roundings = r.values + r.scores * r.score_deviation * r.score_deviation;
    const double largest = std::sqrt(2 * std::log(static_cast<double>(std::max<size_t>(want.size(), 2))));
    for (size_t begin = 0; begin < want.size(); begin += row) {
        double squares = 0;
        for (size_t i = begin; i < begin + row; i++) {
            squares += want[i] * want[i];
        }
        const double deviation = roundoff * std::sqrt(roundings / 3 * squares / static_cast<double>(row));
        for (size_t i = begin; i < begin + row; i++) {
            const double magnitude = std::fabs(want[i]);
            result[i] = kF32Tolerance * std::max(1.0, magnitude) + (roundoff > 0 ? roundoff * magnitude + largest * deviation : 0);
        }
    }
    return result;
}

OutputReport compare_values(const CaseOutput &output, const HostTensor &got, const HostTensor &want, const std::vector<double> &tolerance) {
    Reporter reporter(output.name, want.shape());
    for (size_t i = 0; i < want.size(); i++) {
        reporter.add(got[output.order.empty() ? i : output.order[i]], want[i], tolerance[i]);
    }
    return reporter.report;
}

namespace {

// Similarities of one batch entry and router.
struct ScoreRow {
    const HostTensor &similarities;
    const HostTensor *mask;
    size_t begin, mask_begin;

    bool valid(int64_t n) const {
        return mask == nullptr || (*mask)[mask_begin + static_cast<size_t>(n)] != 0;
    }
    double score(int64_t n) const {
        return similarities[begin + static_cast<size_t>(n)];
    }
    bool before(int64_t a, int64_t b) const {
        const bool valid_a = valid(a), valid_b = valid(b);
        if (valid_a != valid_b || !valid_a) {
            return valid_a != valid_b ? valid_a : a < b;
        }
        const double score_a = score(a), score_b = score(b);
        return score_a != score_b ? score_a > score_b : a < b;
    }
    bool near(int64_t a, int64_t b, double limit) const {
        return valid(a) && valid(b) && std::fabs(score(a) - score(b)) <= limit * std::max(1.0, std::fabs(score(a)));
    }
};

// Calls visit(row, its first place in [b, r, k]) for all batch entries and routers.
template<class Visit>
void for_rows(const HostTensor &similarities, const HostTensor *mask, int64_t k, Visit visit) {
    const std::vector<int64_t> &shape = similarities.shape();  // b, r, n
    for (int64_t b = 0; b < shape[0]; b++) {
        for (int64_t r = 0; r < shape[1]; r++) {
            const int64_t row = b * shape[1] + r;
            visit(ScoreRow{similarities, mask, static_cast<size_t>(row * shape[2]), static_cast<size_t>(b * shape[2])}, static_cast<size_t>(row * k));
        }
    }
}

}  // namespace

HostTensor select_by_rule(const Selection &selection, const HostTensor &similarities, const HostTensor *mask, int64_t k) {
    HostTensor result(DType::i64, {similarities.shape()[0], similarities.shape()[1], k});
    const int64_t per_block = k / selection.blocks;
    for_rows(similarities, mask, k, [&](const ScoreRow &row, size_t place) {
        std::vector<int64_t> order(static_cast<size_t>(selection.width));
        for (int64_t block = 0; block < selection.blocks; block++) {
            std::iota(order.begin(), order.end(), block * selection.width);
            std::sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return row.before(a, b); });
            for (int64_t slot = 0; slot < per_block; slot++) {
                result.set(place++, static_cast<double>(order[static_cast<size_t>(slot)]));
            }
        }
    });
    return result;
}

OutputReport compare_selection(const CaseOutput &output, const HostTensor &got, const HostTensor &want, const HostTensor &similarities, const HostTensor *mask,
                               double near) {
    Reporter reporter(output.name, want.shape());
    const int64_t k = want.shape()[2], length = similarities.shape()[2];
    for_rows(similarities, mask, k, [&](const ScoreRow &row, size_t place) {
        std::vector<int64_t> a, b;
        for (int64_t slot = 0; slot < k; slot++) {
            a.push_back(static_cast<int64_t>(got[place + static_cast<size_t>(slot)]));
            b.push_back(static_cast<int64_t>(want[place + static_cast<size_t>(slot)]));
        }
        const auto outside = [&](int64_t n) { return n < 0 || n >= length; };
        const bool comparable = std::none_of(a.begin(), a.end(), outside) && std::none_of(b.begin(), b.end(), outside);
        if (comparable && !output.selection->by_rank) {
            const auto before = [&](int64_t m, int64_t n) { return row.before(m, n); };
            std::sort(a.begin(), a.end(), before);
            std::sort(b.begin(), b.end(), before);
        }
        for (size_t slot = 0; slot < a.size(); slot++) {
            const bool same = a[slot] == b[slot] || (comparable && row.near(a[slot], b[slot], near));
            reporter.add(static_cast<double>(same ? b[slot] : a[slot]), static_cast<double>(b[slot]), 0);
        }
    });
    return reporter.report;
}

}  // namespace moa::tools
