#include "tools/suite.h"

#include "tools/case_runner.h"
#include "tools/cases/row_notes.h"
#include "tools/resident.h"
#include "tools/suite_report.h"
#include "workloads/layers.h"

namespace moa::tools {

namespace {

using workloads::LayerCase;
using workloads::LayerInstance;

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
    result.warnings = reference_warnings(result.steps, plan_options.rows);
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
        return fail(device.status());
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
            progress.clear();
            for (const std::string &warning : results.back().warnings) {
                warn(text("{}: {}", results.back().name, warning));
            }
        }
    }
    if (options.json) {
        print_json(results, *plan_options, *device, threads);
    } else if (device->device.type == DeviceType::cuda) {
        print_gpu_table(results, *plan_options, *device, copy_bandwidth(device->device));
    } else {
        print_table(results, *plan_options, threads);
    }
    return exit_code;
}

}  // namespace moa::tools
