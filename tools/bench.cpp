#include "tools/cases/row_notes.h"
#include "tools/commands.h"
#include "tools/op_bench.h"
#include "tools/suite.h"

#include <algorithm>
#include <memory>

namespace moa::tools {

namespace {

using workloads::Intent;
using workloads::Workload;

struct BenchOptions {
    SuiteOptions suite;  // with what both kinds of bench take
    std::string suite_name, op;
    std::vector<std::string> shapes;
    bool all_rows = false;
};

// Options that were on the command line, whatever their values.
struct Given {
    bool dtype = false, precision = false;
};

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
Status take_rows(const BenchOptions &options, Given given, const PlanOptions &plan, const std::string &op, OpBench &bench) {
    for (const std::string &name : plan.rows) {
        const Row *row = find_row(name);
        const DType dtype = workloads::dtype_of(*row);
        if (row->op != op) {
            return invalid("--row {} is of operation {}, not {}", name, row->op, op);
        }
        if ((given.dtype || !bench.rows.empty()) && row->dtype != "any" && dtype != bench.dtype) {
            return invalid("--row {} is of dtype {}, not {}", name, name_of(dtype), name_of(bench.dtype));
        }
        if ((given.precision || !bench.rows.empty()) && workloads::precision_of(*row) != bench.precision) {
            return invalid("--row {} is {}, and {} is not", name, workloads::precision_of(*row) == Precision::tf32 ? "of tf32" : "exact",
                           bench.rows.empty() ? "--precision" : "another --row");
        }
        if (row->device != plan.device.type) {
            return invalid("--row {} is for {}, and --device is {}", name, row->device == DeviceType::cuda ? "GPUs" : "the cpu", name_of(plan.device));
        }
        bench.dtype = row->dtype == "any" ? bench.dtype : dtype;
        bench.precision = workloads::precision_of(*row);
        bench.rows.push_back(row);
    }
    bench.given_rows = !bench.rows.empty();
    if (bench.given_rows && options.all_rows) {
        return invalid("--row and --all-rows exclude each other");
    }
    const bool tf32 = bench.precision == Precision::tf32;
    if (tf32 && std::none_of(built_rows().begin(), built_rows().end(), [&](const Row &row) { return row.op == op && row.dtype == "tf32"; })) {
        return invalid("--precision is tf32, and operation {} has no row that multiplies so", op);
    }
    for (const Row &row : built_rows()) {
        if (options.all_rows && row.op == op && row.device == plan.device.type && (row.dtype == "any" || workloads::dtype_of(row) == bench.dtype) && (!tf32 || row.dtype == "tf32")) {
            bench.rows.push_back(&row);
        }
    }
    return {};
}

Result<OpBench> op_bench_of(const BenchOptions &options, Given given) {
    const Result<PlanOptions> plan = plan_options_for_rows(options.suite.run);
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
    const std::string op = options.op.empty() && !plan->rows.empty() ? std::string(find_row(plan->rows[0])->op) : options.op;
    const Result<const Workload *> workload = chosen_workload(op);
    if (!workload.ok()) {
        return workload.status();
    }
    bench.workload = *workload;
    if (Status status = take_rows(options, given, *plan, op, bench); !status) {
        return status;
    }
    const auto perf = bench.workload->shapes(Intent::perf);
    bench.shapes = options.shapes.empty() ? std::vector<std::string>(perf.begin(), perf.end()) : options.shapes;
    for (const std::string &shape : bench.shapes) {
        if (const auto parsed = workloads::Shape::parse(bench.workload->keys(), shape); !parsed.ok()) {
            return parsed.status();
        }
    }
    return bench;
}

int bench(const BenchOptions &options, Given given) {
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
    const Result<OpBench> op = op_bench_of(options, given);
    return op.ok() ? bench_op(*op) : fail(op.status());
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
    command->add_option("--seed", options->suite.seed, "of the data")->capture_default_str()->check(CLI::NonNegativeNumber);
    command->add_option("--min-runs", options->suite.timing.min_runs, "least number of timed runs")->capture_default_str()->check(CLI::Range(1, 1000000));
    command->add_option("--min-time", options->suite.timing.min_seconds, "least seconds of timed runs")->capture_default_str()->check(CLI::Range(0.0, 3600.0));
    add_run_options(*command, options->suite.run, true);
    command->footer("Every result is compared with reference loops in double precision before it is timed: whole, or, where that would take\n"
                    "more than a few seconds, a sample of its rows; the line then says how many elements were checked. An operation or a step\n"
                    "that takes a reference row, many times slower than others, is a warning on standard error.\n"
                    "\n"
                    "Exit codes:\n"
                    "  0  what ran was right, and was timed\n"
                    "  1  a row is wrong; the line that it prints then runs the case again\n"
                    "  2  an option is bad; one line on standard error says why\n"
                    "  3  not supported by this build or machine\n"
                    "\nExamples:\n"
                    "  moa bench --op attention --all-rows --threads 1\n"
                    "  moa bench --suite reference --case moa_self_4096_e4 --steps");
    command->callback([options, command, &exit_code] { exit_code = bench(*options, {command->count("--dtype") > 0, command->count("--precision") > 0}); });
}

}  // namespace moa::tools
