#include "moa/huge_pages.h"
#include "runtime/thread_pool.h"
#include "workloads/workload.h"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <new>
#include <string>
#include <vector>

// moa_ops_bench [--benchmark_filter=REGEX]: every built row times the perf shapes that it accepts, on
// MOA_THREADS threads (1 unless set). Names are <op>/<shape>/<row>. A row that is wrong is an error, not a
// time. thread_pool/loop/T is a loop of T threads without work: what threads cost a step (runtime/ops_work.cpp).
namespace moa::workloads {

namespace {

int thread_count() {
    const char *text = std::getenv("MOA_THREADS");
    const int threads = text == nullptr ? 1 : std::atoi(text);
    return threads > 0 && threads <= 256 ? threads : 1;
}

struct Free {
    void operator()(std::byte *memory) const {
        ::operator delete[](memory, std::align_val_t(kHugePageBytes));
    }
};

// In huge pages, as in a layer, where it is a part of the workspace.
class Scratch {
public:
    Scratch(const Instance &instance, const Row &row, int threads)
        : bytes_((static_cast<size_t>(threads) * instance.scratch_bytes(row) / kHugePageBytes + 1) * kHugePageBytes),
          memory_(new (std::align_val_t(kHugePageBytes)) std::byte[bytes_]) {
        prefer_huge_pages(span());
    }
    std::span<std::byte> span() const {
        return {memory_.get(), bytes_};
    }

private:
    size_t bytes_;
    std::unique_ptr<std::byte[], Free> memory_;
};

bool takes(const Row &row, const Problem &problem) {
    const std::string name(row.name);
    return select(problem, describe_host(), built_rows(), {&name, 1}).ok();
}

// The first small case that the row accepts, compared with the reference: empty if it is right.
std::string wrong(const Workload &workload, const Row &row, int threads) {
    for (const Intent intent : {Intent::smoke, Intent::regular}) {
        for (const std::string &shape : workload.shapes(intent)) {
            const Case small{.op = std::string(workload.name()), .dtype = dtype_of(row), .shape = shape};
            const auto made = workload.make(small);
            if (!made || !takes(row, (*made)->problem())) {
                continue;
            }
            Instance &instance = **made;
            const Status prepared = instance.prepare(row);
            const Scratch scratch(instance, row, threads);
            Run run(threads, scratch.span());
            const Status status = prepared ? instance.run(run, row) : prepared;
            if (!status) {
                return status.message();
            }
            const Report report = instance.compare();
            return report.ok() ? "" : "wrong: " + report.describe() + "; " + replay(small, row, threads);
        }
    }
    return "";
}

void time_row(benchmark::State &state, const Workload &workload, const Case &timed, const Row &row) {
    const int threads = thread_count();
    const auto made = workload.make(timed);
    if (!made) {
        state.SkipWithError(made.status().message().c_str());
        return;
    }
    Instance &instance = **made;
    if (!takes(row, instance.problem())) {
        state.SkipWithError("not accepted on this machine");
        return;
    }
    if (const std::string error = wrong(workload, row, threads); !error.empty()) {
        state.SkipWithError(error.c_str());
        return;
    }
    const Status prepared = instance.prepare(row);
    const Scratch scratch(instance, row, threads);
    Run run(threads, scratch.span());
    const Status warm = prepared ? instance.run(run, row) : prepared;
    if (!warm) {
        state.SkipWithError(warm.message().c_str());
        return;
    }
    for ([[maybe_unused]] auto _ : state) {
        const Status status = instance.run(run, row);
        benchmark::DoNotOptimize(status.ok());
    }
    const auto iterations = static_cast<double>(state.iterations());
    state.counters["FLOP/s"] = benchmark::Counter(instance.flops() * iterations, benchmark::Counter::kIsRate);
    state.counters["B/s"] = benchmark::Counter(instance.bytes() * iterations, benchmark::Counter::kIsRate);
}

void time_loop(benchmark::State &state) {
    const auto threads = static_cast<int>(state.range(0));
    for ([[maybe_unused]] auto _ : state) {
        benchmark::DoNotOptimize(ThreadPool::instance().parallel_for(
            threads, threads, [](void *, int) { return 0; }, nullptr));
    }
}

void register_all() {
    const int cores = describe_host().cores;
    for (int threads = 1; threads <= std::max(cores, 2); threads *= 2) {
        benchmark::RegisterBenchmark("thread_pool/loop", time_loop)->Arg(threads)->Unit(benchmark::kMicrosecond)->UseRealTime();
    }
    for (const Workload *workload : all_workloads()) {
        for (const std::string &shape : workload->shapes(Intent::perf)) {
            for (const Row &row : built_rows()) {
                if (row.op != workload->name()) {
                    continue;
                }
                const Case timed{.op = std::string(row.op), .dtype = dtype_of(row), .shape = shape};
                const std::string name = timed.op + "/" + timed.shape + "/" + std::string(row.name);
                benchmark::RegisterBenchmark(name.c_str(),
                                             [workload, timed, &row](benchmark::State &state) {
                                                 time_row(state, *workload, timed, row);
                                             })
                    ->Unit(benchmark::kMicrosecond)
                    ->UseRealTime();
            }
        }
    }
}

}  // namespace

}  // namespace moa::workloads

int main(int argc, char **argv) {
    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv)) {
        return 2;
    }
    moa::workloads::register_all();
    benchmark::RunSpecifiedBenchmarks();
    benchmark::Shutdown();
    return 0;
}
