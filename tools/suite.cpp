#include "tools/suite.h"

#include "moa/version.h"
#include "tools/case_runner.h"
#include "tools/peak.h"
#include "tools/resident.h"
#include "workloads/layers.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>

namespace moa::tools {

namespace {

using Json = nlohmann::ordered_json;
using workloads::LayerCase;
using workloads::LayerInstance;

// One case's results; `error` instead of them if it did not run or ran wrong.
struct CaseResult {
    std::string_view name;
    Status error;
    Timing timing;
    double flops = 0, bytes = 0;
    size_t workspace_bytes = 0;
    uint64_t output_hash = 0;
    std::vector<Plan::Step> steps;
    std::vector<double> step_seconds;  // medians; only with --steps
    double launch_seconds = 0;         // GPUs: of the host, for all steps of a run
    size_t launches = 0;               // GPUs: kernels, copies and fills of a run
    double weight_bytes = 0, output_bytes = 0;
    double layer_mb = 0;           // CPUs: resident memory of inputs, outputs, weights and plan
    std::optional<double> run_mb;  // CPUs: its largest growth in runs
};

// Two runs, of which the second must give the same bits.
Status check_case(LayerInstance &instance, CaseRunner &runner, CaseResult &result) {
    for (int run = 0; run < 2; run++) {
        instance.poison();
        if (Status status = runner.run(); !status) {
            return status;
        }
        if (Status status = instance.check_outputs(); !status) {
            return status;
        }
        const uint64_t hash = instance.output_hash();
        if (run == 1 && hash != result.output_hash) {
            return {Code::internal, "two runs gave different bits"};
        }
        result.output_hash = hash;
    }
    return {};
}

Status time_case(CaseRunner &runner, const SuiteOptions &options, CaseResult &result) {
    const Result<Timing> timing = runner.measure(options.timing);
    const Result<double> launch = timing.ok() ? runner.launch_seconds(options.timing) : Result<double>(timing.status());
    if (!launch.ok()) {
        return launch.status();
    }
    result.timing = *timing;
    result.launch_seconds = *launch;
    result.launches = runner.launches();
    if (options.steps) {
        Result<std::vector<double>> profile = runner.profile(options.timing);
        if (!profile.ok()) {
            return profile.status();
        }
        result.step_seconds = *std::move(profile);
    }
    return {};
}

CaseResult run_case(const LayerCase &layer, const SuiteOptions &options, const PlanOptions &plan_options) {
    CaseResult result;
    result.name = layer.name;
    const MemoryGrowth of_layer;
    Result<std::unique_ptr<LayerInstance>> instance = layer.make(plan_options.dtype, options.seed);
    Result<Plan> plan = instance.ok() ? (*instance)->plan(plan_options) : Result<Plan>(instance.status());
    if (!plan.ok()) {
        result.error = plan.status();
        return result;
    }
    result.flops = (*instance)->flops();
    result.bytes = (*instance)->bytes();
    result.workspace_bytes = plan->workspace_bytes();
    result.weight_bytes = (*instance)->weight_bytes();
    result.output_bytes = (*instance)->output_bytes();
    result.steps = plan->steps();
    result.layer_mb = of_layer.held_mb();
    const MemoryGrowth of_runs;
    const Result<std::unique_ptr<CaseRunner>> runner = CaseRunner::make(**instance, *std::move(plan));
    result.error = runner.ok() ? check_case(**instance, **runner, result) : runner.status();
    if (result.error) {
        result.run_mb = plan_options.device.type == DeviceType::cpu ? of_runs.most_mb() : std::nullopt;
        result.error = time_case(**runner, options, result);
    }
    return result;
}

Result<std::vector<const LayerCase *>> chosen_cases(const SuiteOptions &options, const Device &device, DType dtype) {
    std::vector<const LayerCase *> chosen;
    for (const std::string &name : options.cases) {
        const LayerCase *layer = workloads::find_layer_case(name);
        if (layer == nullptr) {
            std::string known;
            for (const LayerCase &other : workloads::layer_cases()) {
                known += text("{}{}", known.empty() ? "" : ", ", other.name);
            }
            return Status(Code::not_found, text("--case is '{}', must be one of {}", name, known));
        }
        chosen.push_back(layer);
    }
    for (const LayerCase &layer : workloads::layer_cases()) {
        if (options.cases.empty() && (dtype == DType::f32 || !layer.any_dtype) && (device.type == DeviceType::cuda || !layer.for_gpus)) {
            chosen.push_back(&layer);
        }
    }
    return chosen;
}

int code_of(const Status &status) {
    switch (status.code()) {
    case Code::ok:
        return kPass;
    case Code::unsupported:
        return kUnsupported;
    case Code::invalid_argument:
        return kBadInput;
    default:
        return kFail;
    }
}

// A wrong result outweighs everything, else the first trouble counts.
int worse_code(int a, int b) {
    return b == kFail || a == kPass ? b : a;
}

// --- JSON -------------------------------------------------------------------------------------------------------------

Json machine_json(const DeviceDescription &host, int threads) {
    if (host.device.type == DeviceType::cuda) {
        return {{"name", host.name}, {"device", name_of(host.device)}, {"capability", host.capability}, {"multiprocessors", host.cores}, {"memory_bytes", host.memory_bytes}};
    }
    Json features = Json::array();
    for (int i = 0; i < static_cast<int>(CpuFeature::count); i++) {
        const auto feature = static_cast<CpuFeature>(i);
        if ((host.features & bit(feature)) != 0) {
            features.push_back(name_of(feature));
        }
    }
    return {{"name", host.name}, {"device", name_of(host.device)}, {"features", features}, {"cores", host.cores}, {"threads", threads}};
}

// In whole nanoseconds: no clock says more.
double milliseconds(double seconds) {
    return std::round(seconds * 1e9) / 1e6;
}

Json case_json(const CaseResult &result, DType dtype, int threads) {
    Json json{{"case", result.name}, {"dtype", name_of(dtype)}};
    if (!result.error) {
        json["error"] = result.error.message();
        return json;
    }
    json["median_ms"] = milliseconds(result.timing.median);
    json["min_ms"] = milliseconds(result.timing.min);
    json["runs"] = result.timing.runs;
    json["flops"] = result.flops;
    json["bytes"] = result.bytes;
    json["workspace_bytes"] = result.workspace_bytes;
    json["weight_bytes"] = result.weight_bytes;
    json["output_bytes"] = result.output_bytes;
    if (result.run_mb) {
        json["layer_mb"] = result.layer_mb;
        json["run_mb"] = *result.run_mb;
    }
    json["output_hash"] = text("{:016x}", result.output_hash);
    json["rows"] = Json::array();
    for (const Plan::Step &step : result.steps) {
        if (!step.row.empty() && std::find(json["rows"].begin(), json["rows"].end(), step.row) == json["rows"].end()) {
            json["rows"].push_back(step.row);
        }
    }
    json["threads"] = threads;
    if (result.launch_seconds > 0) {
        json["launches"] = result.launches;
        json["launch_ms"] = milliseconds(result.launch_seconds);
    }
    for (size_t step = 0; step < result.step_seconds.size(); step++) {
        json["steps"].push_back({{"step", result.steps[step].name}, {"median_ms", milliseconds(result.step_seconds[step])}, {"row", result.steps[step].row}, {"threads", result.steps[step].threads}});
    }
    return json;
}

void print_json(const std::vector<CaseResult> &results, DType dtype, const DeviceDescription &device, int threads) {
    Json json{{"machine", machine_json(device, threads)}, {"versions", {{"moa", MOA_VERSION}, {"compiler", __VERSION__}}}, {"cases", Json::array()}};
    for (const CaseResult &result : results) {
        json["cases"].push_back(case_json(result, dtype, threads));
    }
    if (results.size() == 1) {
        json["peak_rss_mb"] = peak_rss_mb();
    }
    print("{}\n", json.dump(2));
}

// --- table ------------------------------------------------------------------------------------------------------------

void print_steps(const CaseResult &result) {
    double total = 0;
    for (const double seconds : result.step_seconds) {
        total += seconds;
    }
    for (size_t step = 0; step < result.step_seconds.size(); step++) {
        const double seconds = result.step_seconds[step];
        const Plan::Step &planned = result.steps[step];
        const std::string threads = planned.threads == 0 ? "" : text("{} thread{}", planned.threads, planned.threads == 1 ? "" : "s");
        print("    {:9.3f} ms {:4.1f} %  {:<38} {:<10} {}\n", seconds * 1e3, 100 * seconds / total, planned.name, threads, planned.row);
    }
}

void print_table(const std::vector<CaseResult> &results, DType dtype, int threads) {
    const Peak peak = measure_peak(threads);
    print("{}, {}, {} thread(s); measured peaks: {:.1f} GFLOP/s in f32, {:.1f} GB/s copied\n", describe_host().name, name_of(dtype), threads, peak.flops / 1e9, peak.bytes / 1e9);
    print("{:<20} {:>11} {:>11} {:>5} {:>9} {:>8} {:>8} {:>8}\n", "case", "median ms", "min ms", "runs", "GFLOP/s", "of peak", "GB/s", "of copy");
    for (const CaseResult &result : results) {
        if (!result.error) {
            print("{:<20} FAILED: {}\n", result.name, result.error.message());
            continue;
        }
        const double seconds = result.timing.median, flops = result.flops / seconds, bytes = result.bytes / seconds;
        print("{:<20} {:>11.3f} {:>11.3f} {:>5} {:>9.1f} {:>6.1f} % {:>8.2f} {:>6.1f} %\n", result.name, seconds * 1e3, result.timing.min * 1e3, result.timing.runs, flops / 1e9,
              100 * flops / peak.flops, bytes / 1e9, 100 * bytes / peak.bytes);
        print_steps(result);
    }
}

// A graph's replay, and beside it what starting the steps one by one costs the host.
void print_gpu_table(const std::vector<CaseResult> &results, DType dtype, const DeviceDescription &device, double copied) {
    print("{}, {}; times of graph replays by the GPU's clock; measured copies: {:.0f} GB/s\n", device.name, name_of(dtype), copied / 1e9);
    print("{:<28} {:>11} {:>11} {:>9} {:>8} {:>8} {:>9} {:>10}\n", "case", "median ms", "min ms", "TFLOP/s", "GB/s", "of copy", "launches", "launch ms");
    for (const CaseResult &result : results) {
        if (!result.error) {
            print("{:<28} FAILED: {}\n", result.name, result.error.message());
            continue;
        }
        const double seconds = result.timing.median, bytes = result.bytes / seconds;
        print("{:<28} {:>11.4f} {:>11.4f} {:>9.2f} {:>8.1f} {:>6.1f} % {:>9} {:>10.4f}\n", result.name, seconds * 1e3, result.timing.min * 1e3, result.flops / seconds / 1e12, bytes / 1e9,
              copied > 0 ? 100 * bytes / copied : 0.0, result.launches, result.launch_seconds * 1e3);
        print_steps(result);
    }
}

double copy_bandwidth(const Device &device) {
    const Result<std::shared_ptr<const cuda::Context>> context = cuda::Context::of(device);
    const Result<std::unique_ptr<GpuTimer>> timer = context.ok() ? GpuTimer::create(*context) : Result<std::unique_ptr<GpuTimer>>(context.status());
    const Result<double> bandwidth = timer.ok() ? (*timer)->copy_bandwidth() : Result<double>(timer.status());
    return bandwidth.ok() ? *bandwidth : 0;
}

}  // namespace

int bench_suite(const SuiteOptions &options) {
    const Result<PlanOptions> plan_options = tools::plan_options(options.run);
    if (!plan_options.ok()) {
        return fail(plan_options.status());
    }
    const Result<DeviceDescription> device = describe(*plan_options);
    if (!device.ok()) {
        fail(device.status());
        return device.status().code() == Code::unsupported ? kUnsupported : kBadInput;
    }
    const Result<std::vector<const LayerCase *>> cases = chosen_cases(options, plan_options->device, plan_options->dtype);
    if (!cases.ok()) {
        return fail(cases.status());
    }
    const int threads = plan_options->threads > 0 ? plan_options->threads : describe_host().cores;
    std::vector<CaseResult> results;
    int exit_code = kPass;
    {
        Progress progress("bench");
        for (const LayerCase *layer : *cases) {
            progress.show(results.size(), cases->size());
            results.push_back(run_case(*layer, options, *plan_options));
            exit_code = worse_code(exit_code, code_of(results.back().error));
        }
    }
    if (options.json) {
        print_json(results, plan_options->dtype, *device, threads);
    } else if (device->device.type == DeviceType::cuda) {
        print_gpu_table(results, plan_options->dtype, *device, copy_bandwidth(device->device));
    } else {
        print_table(results, plan_options->dtype, threads);
    }
    return exit_code;
}

}  // namespace moa::tools
