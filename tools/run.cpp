#include "tools/cases/verify_case.h"
#include "tools/commands.h"

#include <algorithm>
#include <memory>

namespace moa::tools {

namespace {

struct RunCaseOptions {
    std::string file, output;
    bool impose = false;
    RunOptions run;
};

// Whether recorded routes can stand for the layer's own.
Status check_imposed(const CaseLayer &layer) {
    if (std::none_of(layer.outputs.begin(), layer.outputs.end(), [](const CaseOutput &o) { return o.selection.has_value(); })) {
        return invalid("--imposed-routes: the layer routes nothing");
    }
    return layer.routes_missing ? invalid("--imposed-routes: the case has no route.<router>.idx of some router") : Status();
}

// Says why, and whether it is the case's fault or this build's.
int refuse(const std::string &file, const Status &status) {
    return fail({status.code(), text("{}: {}", file, status.message())});
}

int run(const RunCaseOptions &o) {
    const Result<PlanOptions> options = plan_options(o.run);
    if (!options.ok()) {
        return fail(options.status());
    }
    const Result<RecordedCase> recorded = RecordedCase::open(o.file);
    if (!recorded.ok()) {
        return fail(recorded.status());
    }
    const Result<CaseLayer> layer = layer_of(*recorded);
    if (!layer.ok()) {
        return refuse(o.file, layer.status());
    }
    if (Status status = o.impose ? check_imposed(*layer) : Status(); !status) {
        return refuse(o.file, status);
    }
    const Result<Plan> plan = layer->plan(*options, o.impose);
    Result<Outputs> outputs = plan.ok() ? run_case(*layer, *plan) : plan.status();
    if (!outputs.ok()) {
        return refuse(o.file, outputs.status());
    }
    std::map<std::string, HostTensor> named;
    TensorMap tensors;
    for (const CaseOutput &output : layer->outputs) {
        const auto made = named.emplace(output.name, outputs->find(output.argument)->second.reshaped(output.shape)).first;
        tensors[output.name] = made->second.view();
    }
    if (Status status = write_safetensors(o.output, tensors, {{"case", recorded->file.metadata().find("case")->second}}); !status) {
        return fail(status);
    }
    for (const auto &[name, tensor] : tensors) {
        print("{} {}\n", name, tensor.describe());
    }
    return kPass;
}

}  // namespace

void add_run(CLI::App &app, int &exit_code) {
    auto options = std::make_shared<RunCaseOptions>();
    CLI::App *command = app.add_subcommand("run", "Run a layer on the inputs of a case file, and write its outputs");
    command->add_option("file", options->file, "safetensors file with weights w.*, inputs in.* and the metadata `case` (tests/golden/README.md)")->required();
    command->add_option("-o,--output", options->output, "safetensors file to write; it appears whole or not at all")->required();
    command->add_flag("--imposed-routes", options->impose, "route as the file's route.<router>.idx say, not by similarity");
    add_run_options(*command, options->run, true);
    command->footer("Outputs are named as in recorded cases: out.<name>, and route.<router>.{s,y,idx} of what was routed, all positions of a\n"
                    "sequence in order. Recorded outputs in the file are not read,\n"
                    "recorded routes only with --imposed-routes.\n"
                    "\n"
                    "Exit codes:\n"
                    "  0  the outputs were written\n"
                    "  2  a file or an option is bad; one line on standard error says why\n"
                    "  3  the case is of a module, an option or a row that is not supported here\n"
                    "\n"
                    "Example:\n"
                    "  moa run tests/golden/moa_self_e1_h8.safetensors -o out.safetensors");
    command->callback([options, &exit_code] { exit_code = run(*options); });
}

}  // namespace moa::tools
