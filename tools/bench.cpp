#include "tools/commands.h"
#include "tools/gpu_timing.h"
#include "tools/peak.h"
#include "tools/suite.h"
#include "tools/timing.h"
#include "workloads/gpu.h"

#include <memory>

namespace moa::tools {

namespace {

using workloads::Case;
using workloads::Instance;
using workloads::Intent;
using workloads::Workload;

struct BenchOptions {
    SuiteOptions suite;  // with what both kinds of bench take
    std::string suite_name, op;
    std::vector<std::string> shapes;
    bool all_rows = false;
};

// What is timed: an operation, shapes, and rows of its own choice, given ones, or all.
struct OpBench {
    const Workload *workload = nullptr;
    DeviceDescription device;
    DType dtype = DType::f32;
    Precision precision = Precision::exact;
    std::vector<std::string> shapes;
    std::vector<const Row *> rows;  // none: what select() picks
    bool given_shapes = false, given_rows = false;
    int threads = 1;
    uint64_t seed = 1;
    TimingOptions timing;
};

const Row *find_row(std::string_view name) {
    for (const Row &row : built_rows()) {
        if (row.name == name) {
            return &row;
        }
    }
    return nullptr;
}

Result<const Workload *> chosen_workload(const std::string &op) {
    if (const Workload *workload = workloads::find_workload(op)) {
        return workload;
    }
    std::string known;
    for (const Workload *workload : workloads::all_workloads()) {
        known += text("{}{}", known.empty() ? "" : ", ", workload->name());
    }
    return Status(Code::not_found, text("--op is '{}', must be one of {}", op, known));
}

// Given rows bring operation and dtype with them; what was said besides must agree.
Status take_rows(const BenchOptions &options, bool given_dtype, const PlanOptions &plan, std::string &op, OpBench &bench) {
    for (const std::string &name : plan.rows) {
        const Row *row = find_row(name);
        op = op.empty() ? std::string(row->op) : op;
        const DType dtype = workloads::dtype_of(*row);
        if (row->op != op) {
            return invalid("--row {} is of operation {}, not {}", name, row->op, op);
        }
        if ((given_dtype || !bench.rows.empty()) && row->dtype != "any" && dtype != bench.dtype) {
            return invalid("--row {} is of dtype {}, not {}", name, name_of(dtype), name_of(bench.dtype));
        }
        bench.dtype = row->dtype == "any" ? bench.dtype : dtype;
        bench.precision = workloads::precision_of(*row);
        bench.rows.push_back(row);
    }
    bench.given_rows = !bench.rows.empty();
    if (bench.given_rows && options.all_rows) {
        return invalid("--row and --all-rows exclude each other");
    }
    for (const Row &row : built_rows()) {
        if (options.all_rows && row.op == op && row.device == plan.device.type && (row.dtype == "any" || workloads::dtype_of(row) == bench.dtype)) {
            bench.rows.push_back(&row);
        }
    }
    return {};
}

Result<OpBench> op_bench_of(const BenchOptions &options, bool given_dtype) {
    const Result<PlanOptions> plan = plan_options(options.suite.run);
    if (!plan.ok()) {
        return plan.status();
    }
    const Result<DeviceDescription> device = describe(*plan);
    if (!device.ok()) {
        return device.status();
    }
    OpBench bench;
    bench.device = *device;
    bench.dtype = plan->dtype;
    bench.precision = plan->precision;
    bench.threads = plan->threads > 0 ? plan->threads : describe_host().cores;
    bench.seed = options.suite.seed;
    bench.timing = options.suite.timing;
    std::string op = options.op;
    if (Status status = take_rows(options, given_dtype, *plan, op, bench); !status) {
        return status;
    }
    const Result<const Workload *> workload = chosen_workload(op);
    if (!workload.ok()) {
        return workload.status();
    }
    bench.workload = *workload;
    const auto perf = bench.workload->shapes(Intent::perf);
    bench.given_shapes = !options.shapes.empty();
    bench.shapes = bench.given_shapes ? options.shapes : std::vector<std::string>(perf.begin(), perf.end());
    for (const std::string &shape : bench.shapes) {
        if (const auto parsed = workloads::Shape::parse(bench.workload->keys(), shape); !parsed.ok()) {
            return parsed.status();
        }
    }
    return bench;
}

// --- one case ---------------------------------------------------------------------------------------------------------

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

// Empty if the row is right.
std::string compared(const OpBench &bench, Instance &instance, const Case &tested, const Row &row) {
    Status status = instance.prepare(row);
    status = status ? run_once(bench.device, instance, row, bench.threads) : status;
    if (!status) {
        return status.message();
    }
    const workloads::Report report = instance.compare();
    return report.ok() ? "" : text("{}: {}\n  {}", row.name, report.describe(), replay(tested, row, bench.threads));
}

// The small shapes that the row accepts, where the reference loops of the timed one would take minutes.
std::string compared_on_small_shapes(const OpBench &bench, const Row &row) {
    for (const Intent intent : {Intent::smoke, Intent::regular}) {
        for (const std::string &shape : bench.workload->shapes(intent)) {
            const Case small{.op = std::string(row.op), .dtype = bench.dtype, .precision = bench.precision, .shape = shape, .seed = bench.seed};
            const auto made = bench.workload->make(small);
            if (!made.ok() || !chosen_row(bench.device, **made, &row).ok()) {
                continue;
            }
            if (const std::string wrong = compared(bench, **made, small, row); !wrong.empty()) {
                return text("{}: {}", shape, wrong);
            }
        }
    }
    return "";
}

// Reference loops make about 1 GFLOP/s.
constexpr double kMaxReferenceFlops = 4e9;

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

Result<Timing> time_row(const OpBench &bench, Instance &instance, const Row &row) {
    if (Status prepared = instance.prepare(row); !prepared) {
        return prepared;
    }
    if (bench.device.device.type == DeviceType::cuda) {
        return time_on_gpu(bench, instance, row);
    }
    const Memory scratch(static_cast<size_t>(bench.threads) * instance.scratch_bytes(row));
    Run run(bench.threads, scratch.span());
    return measure(bench.timing, [&] { return instance.run(run, row); });
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

// Prints the row's line; returns an exit code.
int bench_row(const OpBench &bench, const Peak &peak, const Case &timed, Instance &instance, const Row *wanted) {
    const Result<Choice> choice = chosen_row(bench.device, instance, wanted);
    if (!choice.ok()) {
        print("{:<36} refused: {}\n", timed.shape, choice.status().message());
        return bench.given_rows || wanted == nullptr ? kUnsupported : kPass;
    }
    const Row &row = *choice->row;
    const bool exact = bench.given_shapes || instance.flops() <= kMaxReferenceFlops;
    const std::string wrong = exact ? compared(bench, instance, timed, row) : compared_on_small_shapes(bench, row);
    if (!wrong.empty()) {
        print("{:<36} WRONG: {}\n", timed.shape, wrong);
        return kFail;
    }
    const Result<Timing> timing = time_row(bench, instance, row);
    if (!timing.ok()) {
        print("{:<36} FAILED: {}\n", timed.shape, timing.status().message());
        return kFail;
    }
    const bool pairs = (row.required & bit(CpuFeature::avx512bf16)) != 0 && row.dtype == "bf16";
    const double peak_flops = pairs ? peak.bf16_flops : peak.flops;
    const double flops = instance.flops() / timing->median, bytes = instance.bytes() / timing->median;
    if (peak_flops == 0) {
        print("{:<36} {:>10.5f} {:>10.5f} {:>8.2f} TFLOP/s {:>7.1f} GB/s {:>6.1f} %  {}{}\n", timed.shape, timing->median * 1e3, timing->min * 1e3, flops / 1e12, bytes / 1e9, 100 * bytes / peak.bytes,
              row.name, exact ? "" : " (checked on small shapes)");
        return kPass;
    }
    print("{:<36} {:>10.4f} {:>10.4f} {:>8.1f} {:>6.1f} % {:>7.2f} {:>6.1f} %  {}{}\n", timed.shape, timing->median * 1e3, timing->min * 1e3, flops / 1e9, 100 * flops / peak_flops,
          bytes / 1e9, 100 * bytes / peak.bytes, row.name, exact ? "" : " (checked on small shapes)");
    return kPass;
}

int bench_shapes(const OpBench &bench, const Peak &peak) {
    int exit_code = kPass;
    for (const std::string &shape : bench.shapes) {
        const Case timed{.op = std::string(bench.workload->name()), .dtype = bench.dtype, .precision = bench.precision, .shape = shape, .seed = bench.seed};
        const auto made = bench.workload->make(timed);
        if (!made.ok()) {
            return fail(made.status());
        }
        const std::vector<const Row *> rows = bench.rows.empty() ? std::vector<const Row *>{nullptr} : bench.rows;
        for (const Row *row : rows) {
            const int code = bench_row(bench, peak, timed, **made, row);
            exit_code = code == kFail || exit_code == kPass ? code : exit_code;
        }
    }
    return exit_code;
}

int bench_op(const OpBench &bench) {
    const Result<Peak> measured = peak_of(bench);
    if (!measured.ok()) {
        return fail(measured.status());
    }
    const Peak peak = *measured;
    if (bench.device.device.type == DeviceType::cuda) {
        print("{} {}, {}; measured copies: {:.0f} GB/s\n", bench.workload->name(), name_of(bench.dtype), bench.device.name, peak.bytes / 1e9);
        return bench_shapes(bench, peak);
    }
    print("{} {}, {}, {} thread(s); measured peaks: {:.1f} GFLOP/s in f32, ", bench.workload->name(), name_of(bench.dtype), describe_host().name, bench.threads, peak.flops / 1e9);
    if (peak.bf16_flops > 0) {
        print("{:.1f} GFLOP/s in pairs of bf16, ", peak.bf16_flops / 1e9);
    }
    print("{:.1f} GB/s copied\n", peak.bytes / 1e9);
    print("{:<36} {:>10} {:>10} {:>8} {:>8} {:>7} {:>8}  row\n", "shape", "median ms", "min ms", "GFLOP/s", "of peak", "GB/s", "of copy");
    return bench_shapes(bench, peak);
}

int bench(const BenchOptions &options, bool given_dtype) {
    const bool one_op = !options.op.empty() || !options.suite.run.rows.empty();
    if (!options.suite_name.empty()) {
        if (options.suite_name != "reference") {
            return fail(invalid("--suite is '{}', must be reference", options.suite_name));
        }
        if (!options.op.empty() || !options.shapes.empty() || options.all_rows) {
            return fail(invalid("--suite takes no --op, --shape or --all-rows"));
        }
        return bench_suite(options.suite);
    }
    if (!one_op) {
        return fail(invalid("bench needs --op, --row or --suite (see moa bench --help)"));
    }
    if (options.suite.json || options.suite.steps || !options.suite.cases.empty()) {
        return fail(invalid("--json, --steps and --case are options of --suite"));
    }
    const Result<OpBench> op = op_bench_of(options, given_dtype);
    if (!op.ok()) {
        fail(op.status());
        return op.status().code() == Code::unsupported ? kUnsupported : kBadInput;
    }
    return bench_op(*op);
}

}  // namespace

void add_bench(CLI::App &app, int &exit_code) {
    auto options = std::make_shared<BenchOptions>();
    CLI::App *command = app.add_subcommand("bench", "Check rows of an operation against reference loops and time them, or time whole layers");
    command->add_option("--op", options->op, "operation to time");
    command->add_option("--shape", options->shapes, "its shape, as in \"q1024_k1024\"; repeatable; default: the operation's shapes for timing")->allow_extra_args(false);
    command->add_flag("--all-rows", options->all_rows, "every row of the operation, instead of the one that is picked");
    command->add_option("--suite", options->suite_name, "suite of layers to time: reference");
    command->add_option("--case", options->suite.cases, "layer of the suite; repeatable; default: all")->allow_extra_args(false);
    command->add_flag("--steps", options->suite.steps, "with --suite: the time of every step of a layer");
    command->add_flag("--json", options->suite.json, "with --suite: one JSON object");
    command->add_option("--seed", options->suite.seed, "of the data")->capture_default_str();
    command->add_option("--min-runs", options->suite.timing.min_runs, "least number of timed runs")->capture_default_str()->check(CLI::Range(1, 1000000));
    command->add_option("--min-time", options->suite.timing.min_seconds, "least seconds of timed runs")->capture_default_str()->check(CLI::Range(0.0, 3600.0));
    add_run_options(*command, options->suite.run, true);
    command->footer("Exit codes:\n"
                    "  0  what ran was right, and was timed\n"
                    "  1  a row is wrong; the line that it prints then runs the case again\n"
                    "  2  an option is bad; one line on standard error says why\n"
                    "  3  not supported by this build or machine\n"
                    "\nExamples:\n"
                    "  moa bench --op attention --all-rows --threads 1\n"
                    "  moa bench --suite reference --case moa_self_4096_e4 --steps");
    command->callback([options, command, &exit_code] { exit_code = bench(*options, command->count("--dtype") > 0); });
}

}  // namespace moa::tools
