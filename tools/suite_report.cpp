#include "tools/suite_report.h"

#include "moa/version.h"
#include "tools/cases/row_notes.h"
#include "tools/commands.h"
#include "tools/peak.h"
#include "tools/resident.h"

#include <nlohmann/json.hpp>

#include <cmath>

namespace moa::tools {

std::string_view numbers_of(const PlanOptions &options) {
    return options.precision == Precision::tf32 ? "tf32" : name_of(options.dtype);
}

namespace {

using Json = nlohmann::ordered_json;

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

Json case_json(const CaseResult &result, const PlanOptions &options, int threads) {
    Json json{{"case", result.name}, {"dtype", name_of(options.dtype)}, {"precision", options.precision == Precision::tf32 ? "tf32" : "exact"}};
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
    json["rows"] = rows_of(result.steps);
    json["warnings"] = result.warnings;
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

}  // namespace

void print_json(const std::vector<CaseResult> &results, const PlanOptions &options, const DeviceDescription &device, int threads) {
    Json json{{"machine", machine_json(device, threads)}, {"versions", {{"moa", MOA_VERSION}, {"compiler", __VERSION__}}}, {"cases", Json::array()}};
    for (const CaseResult &result : results) {
        json["cases"].push_back(case_json(result, options, threads));
    }
    if (results.size() == 1) {
        json["peak_rss_mb"] = peak_rss_mb();
    }
    print("{}\n", json.dump(2));
}

// --- table ------------------------------------------------------------------------------------------------------------

namespace {

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

const char *verdict_of(const Status &error) {
    return error.code() == Code::unsupported ? "UNSUPPORTED" : "FAILED";
}

}  // namespace

void print_table(const std::vector<CaseResult> &results, const PlanOptions &options, int threads) {
    const Peak peak = measure_peak(threads);
    print("{}, {}, {} thread(s); measured peaks: {:.1f} GFLOP/s in f32, {:.1f} GB/s copied\n", describe_host().name, numbers_of(options), threads, peak.flops / 1e9, peak.bytes / 1e9);
    print("{:<20} {:>11} {:>11} {:>5} {:>9} {:>8} {:>8} {:>8}\n", "case", "median ms", "min ms", "runs", "GFLOP/s", "of peak", "GB/s", "of copy");
    for (const CaseResult &result : results) {
        if (!result.error) {
            print("{:<20} {}: {}\n", result.name, verdict_of(result.error), result.error.message());
            continue;
        }
        const double seconds = result.timing.median, flops = result.flops / seconds, bytes = result.bytes / seconds;
        print("{:<20} {:>11.3f} {:>11.3f} {:>5} {:>9.1f} {:>6.1f} % {:>8.2f} {:>6.1f} %\n", result.name, seconds * 1e3, result.timing.min * 1e3, result.timing.runs, flops / 1e9,
              100 * flops / peak.flops, bytes / 1e9, 100 * bytes / peak.bytes);
        print_steps(result);
    }
}

// A graph's replay, and beside it what starting the steps one by one costs the host.
void print_gpu_table(const std::vector<CaseResult> &results, const PlanOptions &options, const DeviceDescription &device, double copied) {
    print("{}, {}; times of graph replays by the GPU's clock; measured copies: {:.0f} GB/s\n", device.name, numbers_of(options), copied / 1e9);
    print("{:<28} {:>11} {:>11} {:>9} {:>8} {:>8} {:>9} {:>10}\n", "case", "median ms", "min ms", "TFLOP/s", "GB/s", "of copy", "launches", "launch ms");
    for (const CaseResult &result : results) {
        if (!result.error) {
            print("{:<28} {}: {}\n", result.name, verdict_of(result.error), result.error.message());
            continue;
        }
        const double seconds = result.timing.median, bytes = result.bytes / seconds;
        print("{:<28} {:>11.4f} {:>11.4f} {:>9.2f} {:>8.1f} {:>6.1f} % {:>9} {:>10.4f}\n", result.name, seconds * 1e3, result.timing.min * 1e3, result.flops / seconds / 1e12, bytes / 1e9,
              copied > 0 ? 100 * bytes / copied : 0.0, result.launches, result.launch_seconds * 1e3);
        print_steps(result);
    }
}

}  // namespace moa::tools
