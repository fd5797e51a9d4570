#include "runtime/ops.h"

#include <algorithm>
#include <cmath>
#include <initializer_list>

// How much a launch has to do, and how many threads that pays for.
namespace moa::ops {

namespace {

// Operations whose inner loops are no multiplications, in multiplications that take as long: moa_ops_bench of large shapes on one
// core of a Zen 3 EPYC (AVX2), which are in the comments of schedules/*_cpu.cpp, at the rates below.
constexpr double kDescentFlops = 10;      // an iteration of coordinate descent, a score
constexpr double kSelectFlops = 40;       // selection, a score; by rank twice as much
constexpr double kSlotFlops = 40;         // routing, a slot
constexpr double kExponentialFlops = 20;  // softmax, a score
constexpr double kSineFlops = 36;         // sine and cosine, an angle

double elements(const View &view) {
    double count = 1;
    for (int axis = 0; axis < view.rank; axis++) {
        count *= static_cast<double>(view.extent(axis));
    }
    return count;
}

// Of memory: axes of stride 0 are one element.
double bytes(std::initializer_list<const View *> views) {
    double sum = 0;
    for (const View *view : views) {
        double count = static_cast<double>(size_bytes(view->dtype));
        for (int axis = 0; axis < view->rank; axis++) {
            count *= view->axes[axis].stride == 0 ? 1 : static_cast<double>(view->extent(axis));
        }
        sum += count;
    }
    return sum;
}

// A second's flops of one thread, at the least: rows that are slower than thought would be left with too few threads.
double flops_rate(const Row &row) {
    if (row.schedule == "reference") {
        return 1e9;
    }
    const auto has = [&](CpuFeature feature) { return (row.required & bit(feature)) != 0; };
    if (has(CpuFeature::amx_bf16)) {
        return 400e9;
    }
    return has(CpuFeature::avx512f) ? 80e9 : (has(CpuFeature::avx2) ? 40e9 : 10e9);
}
constexpr double kBytesRate = 15e9;

// What each further thread adds to a step: it must be told, and be waited for. `moa_ops_bench --benchmark_filter=thread_pool`
// gives the part without memory: (T threads - 1 thread) / (T - 1). When every step took every thread, moa_cross_readme (12
// launches) took 0.27 ms with 4 threads and 0.40 ms with 16, which is 1.9 us a thread and launch
// (`moa bench --suite reference --case moa_cross_readme --steps --threads 16`).
constexpr double kThreadSeconds = 2e-6;

}  // namespace

int threads_for(const Row &row, const Work &work, int most) {
    const double alone = std::max(work.flops / flops_rate(row), work.bytes / kBytesRate);
    // t threads take alone / t + (t - 1) * kThreadSeconds: one more pays for itself while alone / (t * (t + 1)) > kThreadSeconds.
    const double threads = std::floor(0.5 + std::sqrt(0.25 + alone / kThreadSeconds));
    return static_cast<int>(std::clamp(threads, 1.0, static_cast<double>(most)));
}

Work work(const RouterScores &a) {
    return {2 * elements(a.x) * static_cast<double>(a.tokens.extent(1) + 2), bytes({&a.x, &a.tokens, &a.scores, &a.stats})};
}
Work work(const RowStatistics &a) {
    return {4 * elements(a.x), bytes({&a.x, &a.stats})};
}
Work work(const CoordinateDescent &a) {
    return {kDescentFlops * elements(a.scores) * static_cast<double>(a.eps.extent(0)), bytes({&a.scores, &a.mask, &a.y})};
}
Work work(const CoordinateDescentStep &a) {
    return {kDescentFlops * elements(a.scores), bytes({&a.scores, &a.mask})};
}
Work work(const CoordinateDescentFinish &a) {
    return {kDescentFlops * elements(a.scores), bytes({&a.scores, &a.mask, &a.y})};
}
Work work(const SelectTokens &a) {
    return {kSelectFlops * elements(a.scores), bytes({&a.scores, &a.mask, &a.indices})};
}
Work work(const RouteSlots &a) {
    return {kSlotFlops * elements(a.indices), bytes({&a.indices, &a.mask, &a.scores, &a.valid, &a.slots, &a.rows})};
}
Work work(const SelectSlots &a) {
    return {kSelectFlops * elements(a.scores) + kSlotFlops * elements(a.indices), bytes({&a.scores, &a.mask, &a.indices, &a.routing_scores, &a.valid, &a.slots, &a.rows})};
}
Work work(const CopyIndices &a) {
    return {elements(a.out), bytes({&a.in, &a.out})};
}
Work work(const Project &a) {
    const double rows = elements(a.out) / static_cast<double>(std::max<int64_t>(a.out.extent(0) * a.out.extent(2), 1));
    const auto in = static_cast<double>(a.x.extent(0));
    return {2 * elements(a.out) * in, rows * in * static_cast<double>(size_bytes(a.x.dtype)) + bytes({&a.weights, &a.out})};
}
Work work(const Attention &a) {
    const auto keys = static_cast<double>(a.k.extent(1)), scores = elements(a.q) / std::max<double>(1, static_cast<double>(a.q.extent(0))) * keys;
    return {4 * elements(a.q) * keys + kExponentialFlops * scores, bytes({&a.q, &a.k, &a.v, &a.out})};
}
Work work(const LocalAttention &a) {
    const auto keys = static_cast<double>(slots_of(a)), scores = elements(a.q) / std::max<double>(1, static_cast<double>(a.q.extent(0))) * keys;
    return {4 * elements(a.q) * keys + kExponentialFlops * scores, bytes({&a.q, &a.k, &a.v, &a.out})};
}
Work work(const Combine &a) {
    return {2 * elements(a.out) * static_cast<double>(a.a.extent(2)), bytes({&a.a, &a.out, &a.local})};
}
Work work(const RotaryTable &a) {
    return {kSineFlops * elements(a.angles), bytes({&a.angles, &a.cosines, &a.sines})};
}

}  // namespace moa::ops
