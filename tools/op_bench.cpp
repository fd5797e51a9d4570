#include "tools/op_bench.h"

#include "tools/cases/row_notes.h"
#include "tools/commands.h"
#include "tools/gpu_timing.h"
#include "tools/peak.h"
#include "workloads/gpu.h"

#include <cstdio>
#include <memory>

namespace moa::tools {

namespace {

using workloads::Case;
using workloads::Instance;

// Reference loops make about 1 GFLOP/s. Beyond the first bound they compute a sample of rows, of about the second.
constexpr double kMaxReferenceFlops = 4e9, kSampleFlops = 1e9;

Result<Choice> chosen_row(const DeviceDescription &device, const Instance &instance, const Row *wanted) {
    if (wanted == nullptr) {
        return select(instance.problem(), device, built_rows());
    }
    const std::string name(wanted->name);
    return select(instance.problem(), device, built_rows(), {&name, 1});
}

Status run_once(const DeviceDescription &device, Instance &instance, const Row &row, int threads) {
    if (device.device.type == DeviceType::cuda) {
        const Result<workloads::GpuInstance> copies = workloads::GpuInstance::make(device.device, instance, row);
        instance.poison();
        return copies.ok() ? copies->run() : copies.status();
    }
    const Memory scratch(static_cast<size_t>(threads) * instance.scratch_bytes(row));
    Run run(threads, scratch.span());
    instance.poison();
    return instance.run(run, row);
}

Result<workloads::Report> compared(const OpBench &bench, Instance &instance, const Row &row) {
    Status status = instance.prepare(row);
    status = status ? run_once(bench.device, instance, row, bench.threads) : status;
    return status.ok() ? Result<workloads::Report>(instance.compare()) : Result<workloads::Report>(status);
}

Result<Timing> time_on_gpu(const OpBench &bench, Instance &instance, const Row &row) {
    const Result<workloads::GpuInstance> copies = workloads::GpuInstance::make(bench.device.device, instance, row);
    if (!copies.ok()) {
        return copies.status();
    }
    const Result<std::unique_ptr<GpuTimer>> timer = GpuTimer::create(copies->context().shared_from_this());
    if (!timer.ok()) {
        return timer.status();
    }
    return (*timer)->measure(bench.timing, [&] { return copies->launch((*timer)->stream()); });
}

Result<Timing> time_row(const OpBench &bench, Instance &instance, const Row &row, Progress &progress) {
    if (bench.device.device.type == DeviceType::cuda) {
        return time_on_gpu(bench, instance, row);
    }
    const Memory scratch(static_cast<size_t>(bench.threads) * instance.scratch_bytes(row));
    Run run(bench.threads, scratch.span());
    TimingOptions timing = bench.timing;
    timing.progress = [&](int runs) { progress.say(text("run {} of at least {}", runs + 1, timing.min_runs)); };
    return measure(timing, [&] { return instance.run(run, row); });
}

// What the device can do at best; no more than a GPU's copies are measured.
Result<Peak> peak_of(const OpBench &bench) {
    if (bench.device.device.type == DeviceType::cpu) {
        return measure_peak(bench.threads);
    }
    const Result<std::shared_ptr<const cuda::Context>> context = cuda::Context::of(bench.device.device);
    const Result<std::unique_ptr<GpuTimer>> timer = context.ok() ? GpuTimer::create(*context) : Result<std::unique_ptr<GpuTimer>>(context.status());
    const Result<double> bytes = timer.ok() ? (*timer)->copy_bandwidth() : Result<double>(timer.status());
    return bytes.ok() ? Result<Peak>(Peak{0, 0, *bytes}) : Result<Peak>(bytes.status());
}

void print_times(const Peak &peak, const Case &timed, const Instance &instance, const Row &row, const Timing &timing, const workloads::Report &report) {
    const bool pairs = (row.required & bit(CpuFeature::avx512bf16)) != 0 && row.dtype == "bf16";
    const double peak_flops = pairs ? peak.bf16_flops : peak.flops;
    const double flops = instance.flops() / timing.median, bytes = instance.bytes() / timing.median;
    // Elements that the inputs leave open, too: behind a NaN, say.
    const std::string checked = report.checked == report.elements ? "" : text(" (checked: {} of {} elements)", report.checked, report.elements);
    if (peak_flops == 0) {
        print("{:<36} {:>10.5f} {:>10.5f} {:>8.2f} TFLOP/s {:>7.1f} GB/s {:>6.1f} %  {}{}\n", timed.shape, timing.median * 1e3, timing.min * 1e3, flops / 1e12, bytes / 1e9,
              100 * bytes / peak.bytes, row.name, checked);
        return;
    }
    print("{:<36} {:>10.4f} {:>10.4f} {:>8.1f} {:>6.1f} % {:>7.2f} {:>6.1f} %  {}{}\n", timed.shape, timing.median * 1e3, timing.min * 1e3, flops / 1e9, 100 * flops / peak_flops,
          bytes / 1e9, 100 * bytes / peak.bytes, row.name, checked);
}

// Of work that takes long even at the machine's best, people are told before it begins.
void announce(const OpBench &bench, const Peak &peak, const Case &timed, const Instance &instance) {
    constexpr double kLong = 60;
    const int runs = bench.timing.min_runs + 2;  // the one that is checked, and the one that warms up
    const double seconds = peak.flops > 0 ? runs * instance.flops() / peak.flops : 0;
    if (seconds > kLong) {
        std::fprintf(stderr, "moa: %s: %d runs take at least %.0f minutes\n", timed.shape.c_str(), runs, seconds / 60);
    }
}

// Prints the row's line; returns an exit code.
int bench_row(const OpBench &bench, const Peak &peak, const Case &timed, Instance &instance, const Row *wanted) {
    Progress progress(timed.shape);
    const Result<Choice> choice = chosen_row(bench.device, instance, wanted);
    if (!choice.ok()) {
        print("{:<36} refused: {}\n", timed.shape, choice.status().message());
        return bench.given_rows || wanted == nullptr ? kUnsupported : kPass;
    }
    const Row &row = *choice->row;
    if (wanted == nullptr && is_reference(row)) {
        warn(text("{}: {} takes it, {}", timed.shape, row.name, choice->reason));
    }
    announce(bench, peak, timed, instance);
    instance.set_precision(workloads::precision_of(row));  // an exact row is held to what is exact
    progress.say("checking");
    const Result<workloads::Report> report = compared(bench, instance, row);
    if (!report.ok() || !report->ok()) {
        progress.clear();
        print("{:<36} WRONG: {}: {}\n  {}\n", timed.shape, row.name, report.ok() ? report->describe() : report.status().message(), replay(timed, row, bench.threads));
        return kFail;
    }
    progress.say("timing");
    const Result<Timing> timing = time_row(bench, instance, row, progress);
    progress.clear();
    if (!timing.ok()) {
        print("{:<36} FAILED: {}\n", timed.shape, timing.status().message());
        return kFail;
    }
    print_times(peak, timed, instance, row, *timing, *report);
    return kPass;
}

int bench_shapes(const OpBench &bench, const Peak &peak) {
    int exit_code = kPass;
    for (const std::string &shape : bench.shapes) {
        const Case timed{.op = std::string(bench.workload->name()), .dtype = bench.dtype, .precision = bench.precision, .shape = shape, .seed = bench.seed};
        Progress progress(shape);
        progress.say("making data");
        const auto made = bench.workload->make(timed);
        progress.clear();
        if (!made.ok()) {
            return fail(made.status());
        }
        // What a sample leaves out must be finite, which is not so behind a NaN.
        if ((*made)->flops() > kMaxReferenceFlops && shape.find("nan") == std::string::npos) {
            (*made)->limit_reference(kSampleFlops);
        }
        const std::vector<const Row *> rows = bench.rows.empty() ? std::vector<const Row *>{nullptr} : bench.rows;
        for (const Row *row : rows) {
            (*made)->set_precision(row == nullptr ? bench.precision : workloads::precision_of(*row));
            const int code = bench_row(bench, peak, timed, **made, row);
            exit_code = code == kFail || exit_code == kPass ? code : exit_code;
        }
    }
    return exit_code;
}

}  // namespace

int bench_op(const OpBench &bench) {
    const Result<Peak> measured = peak_of(bench);
    if (!measured.ok()) {
        return fail(measured.status());
    }
    const Peak peak = *measured;
    const std::string_view numbers = bench.precision == Precision::tf32 ? "tf32" : name_of(bench.dtype);
    if (bench.device.device.type == DeviceType::cuda) {
        print("{} {}, {}; measured copies: {:.0f} GB/s\n", bench.workload->name(), numbers, bench.device.name, peak.bytes / 1e9);
        return bench_shapes(bench, peak);
    }
    print("{} {}, {}, {} thread(s); measured peaks: {:.1f} GFLOP/s in f32, ", bench.workload->name(), numbers, describe_host().name, bench.threads, peak.flops / 1e9);
    if (peak.bf16_flops > 0) {
        print("{:.1f} GFLOP/s in pairs of bf16, ", peak.bf16_flops / 1e9);
    }
    print("{:.1f} GB/s copied\n", peak.bytes / 1e9);
    print("{:<36} {:>10} {:>10} {:>8} {:>8} {:>7} {:>8}  row\n", "shape", "median ms", "min ms", "GFLOP/s", "of peak", "GB/s", "of copy");
    return bench_shapes(bench, peak);
}

}  // namespace moa::tools
