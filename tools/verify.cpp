#include "tools/cases/verify_case.h"
#include "tools/commands.h"

#include <cmath>
#include <memory>

namespace moa::tools {

namespace {

struct VerifyOptions {
    std::vector<std::string> files;
    RunOptions run;
    bool json = false;
};

struct Tally {
    int64_t passed = 0, failed = 0, unsupported = 0, bad = 0;

    int exit_code() const {
        return bad > 0 ? kBadInput : (failed > 0 ? kFail : (unsupported > 0 ? kUnsupported : kPass));
    }
};

Json json_of(const OutputReport &o) {
    return {{"name", o.name}, {"pass", o.pass()}, {"error", o.error}, {"tolerance", o.tolerance}, {"got", o.got}, {"want", o.want}, {"index", o.index}, {"elements", o.elements}, {"wrong", o.wrong}, {"nan_mismatches", o.nan_mismatches}};
}

Json json_of(const CaseReport &report, const std::string &file, const RecordedCase &recorded) {
    Json outputs = Json::array();
    for (const OutputReport &output : report.outputs) {
        outputs.push_back(json_of(output));
    }
    return {{"file", file}, {"case", recorded.name}, {"module", recorded.module}, {"verdict", name_of(report.verdict)}, {"reason", report.reason}, {"outputs", outputs}, {"rows", report.rows}, {"warnings", report.warnings}};
}

void print_report(const CaseReport &report, const std::string &file, const RecordedCase &recorded) {
    print("{} {} ({})\n", name_of(report.verdict), file, recorded.module);
    if (!report.reason.empty()) {
        print("    {}\n", report.reason);
    }
    for (const OutputReport &output : report.outputs) {
        print("    {} {}\n", output.pass() ? "pass" : "FAIL", output.describe());
    }
}

// One file. Bad ones are reported at once, and do not keep the others from being verified.
void verify_file(const std::string &file, const PlanOptions &options, bool as_json, Tally &tally, Json &cases) {
    const Result<RecordedCase> recorded = RecordedCase::open(file);
    Result<CaseReport> report = recorded.ok() ? verify_case(*recorded, options) : recorded.status();
    if (!report.ok()) {
        tally.bad++;
        const std::string message = recorded.ok() ? text("{}: {}", file, report.status().message()) : report.status().message();
        fail({report.status().code(), message});
        cases.push_back({{"file", file}, {"verdict", "BAD"}, {"reason", message}});
        return;
    }
    for (const std::string &warning : report->warnings) {
        warn(text("{}: {}", file, warning));
    }
    tally.passed += report->verdict == Verdict::pass ? 1 : 0;
    tally.failed += report->verdict == Verdict::fail ? 1 : 0;
    tally.unsupported += report->verdict == Verdict::unsupported ? 1 : 0;
    if (as_json) {
        cases.push_back(json_of(*report, file, *recorded));
    } else {
        print_report(*report, file, *recorded);
    }
}

int verify(const VerifyOptions &o) {
    const Result<PlanOptions> options = plan_options(o.run);
    if (!options.ok()) {
        return fail(options.status());
    }
    Tally tally;
    Json cases = Json::array();
    Progress progress("verify");
    for (size_t i = 0; i < o.files.size(); i++) {
        progress.show(i, o.files.size());
        verify_file(o.files[i], *options, o.json, tally, cases);
        progress.clear();
    }
    if (o.json) {
        const Json result{{"device", o.run.device}, {"dtype", o.run.dtype}, {"cases", cases}, {"passed", tally.passed}, {"failed", tally.failed}, {"unsupported", tally.unsupported}, {"bad", tally.bad}};
        print("{}\n", result.dump(2, ' ', false, Json::error_handler_t::replace));
    } else {
        print("{} passed, {} failed, {} unsupported, {} bad\n", tally.passed, tally.failed, tally.unsupported, tally.bad);
    }
    return tally.exit_code();
}

}  // namespace

void add_verify(CLI::App &app, int &exit_code) {
    auto options = std::make_shared<VerifyOptions>();
    CLI::App *command = app.add_subcommand("verify", "Compare layers with results that were recorded from the PyTorch packages");
    command->add_option("files", options->files, "recorded cases: safetensors files with the metadata `case` (tests/golden/README.md)")->required();
    add_run_options(*command, options->run, true);
    command->add_flag("--json", options->json, "the same as one JSON object on standard output");
    command->footer("Prints, for every output, its largest error by tolerance, and PASS, FAIL or UNSUPPORTED for every case.\n"
                    "f32: 1e-4, absolute and relative above 1; routes must be the recorded ones. bf16: the recorded routes are\n"
                    "imposed, the tolerance is what rounding to bf16 does on the way, and the layer's own routes must be the best\n"
                    "ones by its own similarities. A case without a step of an operation whose row is forced is UNSUPPORTED. A step that\n"
                    "takes a reference row, many times slower than others, is a warning on standard error.\n"
                    "\n"
                    "Exit codes:\n"
                    "  0  every case passes\n"
                    "  1  a case fails\n"
                    "  2  a file or an option is bad; one line on standard error says why\n"
                    "  3  no case fails, but one is of a module, an option or a row that is not supported here\n"
                    "\n"
                    "Examples:\n"
                    "  moa verify tests/golden/*.safetensors\n"
                    "  moa verify --dtype bf16 --threads 1 --json tests/golden/large/*.safetensors\n"
                    "  moa verify --row $(moa rows --op attention --target x86 --json | jq -r '.[0].name') case.safetensors");
    command->callback([options, &exit_code] { exit_code = verify(*options); });
}

}  // namespace moa::tools
