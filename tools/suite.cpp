#include "tools/suite.h"

#include "moa/version.h"
#include "tools/peak.h"
#include "workloads/layers.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <sys/resource.h>

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
};

class CaseRunner {
public:
    CaseRunner(const LayerInstance &instance, Plan plan)
        : instance_(instance), plan_(std::move(plan)), workspace_(plan_.workspace_bytes()) {
    }

    const Plan &plan() const {
        return plan_;
    }
    Status run(const Plan::Observer &observer = {}) const {
        return plan_.run(instance_.tensors(), workspace_.span(), observer);
    }

    // Medians of every step's time.
    Result<std::vector<double>> profile(const TimingOptions &timing) const {
        using Clock = std::chrono::steady_clock;
        std::vector<std::vector<double>> seconds(plan_.steps().size());
        const auto once = [&] {
            auto last = Clock::now();
            return run([&](size_t step) {
                const auto now = Clock::now();
                seconds[step].push_back(std::chrono::duration<double>(now - last).count());
                last = Clock::now();
            });
        };
        if (const Result<Timing> whole = measure(timing, once); !whole.ok()) {
            return whole.status();
        }
        std::vector<double> medians;
        for (std::vector<double> &times : seconds) {
            times.erase(times.begin());  // the run that warmed up
            medians.push_back(median_of(std::move(times)));
        }
        return medians;
    }

private:
    const LayerInstance &instance_;
    Plan plan_;
    Memory workspace_;
};

// Two runs, of which the second must give the same bits.
Status check_case(LayerInstance &instance, const CaseRunner &runner, CaseResult &result) {
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

CaseResult run_case(const LayerCase &layer, const SuiteOptions &options, const PlanOptions &plan_options) {
    CaseResult result;
    result.name = layer.name;
    Result<std::unique_ptr<LayerInstance>> instance = layer.make(plan_options.dtype, options.seed);
    Result<Plan> plan = instance.ok() ? (*instance)->plan(plan_options) : Result<Plan>(instance.status());
    if (!plan.ok()) {
        result.error = plan.status();
        return result;
    }
    result.flops = (*instance)->flops();
    result.bytes = (*instance)->bytes();
    result.workspace_bytes = plan->workspace_bytes();
    result.steps = plan->steps();
    const CaseRunner runner(**instance, *std::move(plan));
    result.error = check_case(**instance, runner, result);
    if (!result.error) {
        return result;
    }
    const Result<Timing> timing = measure(options.timing, [&] { return runner.run(); });
    Result<std::vector<double>> profile = std::vector<double>();
    if (timing.ok() && options.steps) {
        profile = runner.profile(options.timing);
    }
    result.error = timing.ok() ? profile.status() : timing.status();
    if (result.error) {
        result.timing = *timing;
        result.step_seconds = *std::move(profile);
    }
    return result;
}

Result<std::vector<const LayerCase *>> chosen_cases(const SuiteOptions &options, DType dtype) {
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
        if (options.cases.empty() && (dtype == DType::f32 || !layer.any_dtype)) {
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

// Peak resident memory of this process so far.
double peak_rss_mb() {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    return static_cast<double>(usage.ru_maxrss) / 1024;
}

// --- JSON -------------------------------------------------------------------------------------------------------------

Json machine_json(int threads) {
    const DeviceDescription host = describe_host();
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
    json["output_hash"] = text("{:016x}", result.output_hash);
    json["rows"] = Json::array();
    for (const Plan::Step &step : result.steps) {
        if (!step.row.empty() && std::find(json["rows"].begin(), json["rows"].end(), step.row) == json["rows"].end()) {
            json["rows"].push_back(step.row);
        }
    }
    json["threads"] = threads;
    for (size_t step = 0; step < result.step_seconds.size(); step++) {
        json["steps"].push_back({{"step", result.steps[step].name}, {"median_ms", milliseconds(result.step_seconds[step])}, {"row", result.steps[step].row}});
    }
    return json;
}

void print_json(const std::vector<CaseResult> &results, DType dtype, int threads) {
    Json json{{"machine", machine_json(threads)}, {"versions", {{"moa", MOA_VERSION}, {"compiler", __VERSION__}}}, {"cases", Json::array()}};
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
        print("    {:9.3f} ms {:4.1f} %  {:<38} {}\n", seconds * 1e3, 100 * seconds / total, result.steps[step].name, result.steps[step].row);
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

}  // namespace

int bench_suite(const SuiteOptions &options) {
    const Result<PlanOptions> plan_options = tools::plan_options(options.run);
    if (!plan_options.ok()) {
        return fail(plan_options.status());
    }
    const Result<std::vector<const LayerCase *>> cases = chosen_cases(options, plan_options->dtype);
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
    options.json ? print_json(results, plan_options->dtype, threads) : print_table(results, plan_options->dtype, threads);
    return exit_code;
}

}  // namespace moa::tools
