#include "tools/commands.h"
#include "tools/models/masked_lm.h"

#include "runtime/text.h"

#include <memory>
#include <string>

namespace moa::tools {

namespace {

struct FillOptions {
    std::string model = models_folder() + "/masked_lm.safetensors", text, mark = "_";
    RunOptions run;
};

int fill(const FillOptions &options) {
    if (options.mark.size() != 1) {
        return fail(invalid("--mark is '{}', must be one byte", options.mark));
    }
    Result<PlanOptions> plan = plan_options(options.run);
    Result<std::string> damaged = plan.ok() ? read_text(options.text) : plan.status();
    if (!damaged.ok()) {
        return fail(damaged.status());
    }
    Result<MaskedLm> model = MaskedLm::load(options.model, *plan);
    if (!model.ok()) {
        return fail(model.status());
    }
    Progress progress("fill");
    const Result<std::string> restored = model->fill(*damaged, options.mark[0], [&](size_t done, size_t all) { progress.show(done, all); });
    progress.clear();
    if (!restored.ok()) {
        return fail(restored.status());
    }
    print("{}", *restored);
    return 0;
}

}  // namespace

void add_fill(CLI::App &app, int &exit_code) {
    auto options = std::make_shared<FillOptions>();
    CLI::App *command = app.add_subcommand("fill", "Restore the bytes of a text that are marked as lost, with a trained model");
    command->add_option("--model", options->model, "safetensors file of a masked byte model")->capture_default_str();
    command->add_option("--text", options->text, "file with the damaged text, or - for standard input")->required();
    command->add_option("--mark", options->mark, "the byte that stands for a lost one")->capture_default_str();
    add_run_options(*command, options->run, false);
    command->footer("Prints the restored text on standard output, as long as the damaged one; only marked bytes change.\n"
                    "\n"
                    "Exit codes:\n"
                    "  0  the text was restored\n"
                    "  2  an option, the model or the text is bad; one line on standard error says why\n"
                    "  3  not supported by this build or machine\n"
                    "\n"
                    "Examples:\n"
                    "  echo 'glory, an_ wisdom, and_thanksgiving' | moa fill --text -\n"
                    "  moa fill --model models/masked_lm.safetensors --text damaged.txt --mark '#'");
    command->callback([options, &exit_code] { exit_code = fill(*options); });
}

}  // namespace moa::tools
