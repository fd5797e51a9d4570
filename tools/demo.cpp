#include "tools/commands.h"
#include "tools/models/masked_lm.h"
#include "tools/models/recorded_logits.h"
#include "tools/routes_view.h"

#include "runtime/text.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <random>
#include <set>
#include <string>

namespace moa::tools {

namespace {

constexpr char kMark = '_';

struct DemoOptions {
    std::string models = models_folder(), svg;  // no svg: no picture
    bool force = false;
    int64_t offset = 0, length = 1024;
    double lost = 0.15;
    uint32_t seed = 1;
    RunOptions run;
};

std::string damage(const std::string &passage, double lost, uint32_t seed) {
    std::mt19937 random(seed);
    std::string damaged = passage;
    for (char &c : damaged) {
        const bool hit = static_cast<double>(random()) < lost * 4294967296.0;
        c = hit && c != '\n' ? kMark : c;
    }
    return damaged;
}

void print_accuracy(const std::string &passage, const std::string &damaged, const std::string &restored, double seconds) {
    int64_t lost = 0, right = 0;
    for (size_t i = 0; i < passage.size(); i++) {
        if (damaged[i] == kMark && passage[i] != kMark) {
            lost++;
            right += restored[i] == passage[i] ? 1 : 0;
        }
    }
    print("\n{} of {} lost bytes restored ({:.1f} %) in {:.1f} ms, {:.0f} bytes of text a second.\n", right, lost,
          100.0 * static_cast<double>(right) / static_cast<double>(std::max<int64_t>(lost, 1)), seconds * 1e3, static_cast<double>(passage.size()) / seconds);
}

Status show_routes(MaskedLm &model, const std::string &damaged, const DemoOptions &o) {
    const std::string window = damaged.substr(0, static_cast<size_t>(model.window()));
    std::vector<int32_t> tokens;
    for (const char c : window) {
        tokens.push_back(c == kMark ? model.mask_token() : static_cast<unsigned char>(c));
    }
    std::vector<LayerRoutes> routes;
    const Result<std::vector<float>> logits = model.logits(tokens, 1, &routes);
    if (!logits.ok()) {
        return logits.status();
    }
    if (routes.empty()) {
        print("\nNothing is routed in {} positions: every expert takes all of them.\n", window.size());
        return {};
    }
    constexpr int64_t kColumns = 96;
    print("\nWhat each expert routes in the first positions (dark: queries; light: keys and values only):\n{}", routes_as_text(routes, window, kColumns));
    if (o.svg.empty()) {
        return {};
    }
    Status written = write_text(o.svg, routes_as_svg(routes, window), o.force);
    if (written) {
        print("The same of {} positions, as a picture: {}\n", window.size(), o.svg);
    }
    return written;
}

Status show_rows(MaskedLm &model, int64_t length) {
    const Result<std::vector<Plan::Step>> steps = model.steps(1, length);
    if (!steps.ok()) {
        return steps.status();
    }
    print("\nRows that ran, and why:\n");
    std::set<std::string> seen;
    for (const Plan::Step &step : *steps) {
        if (!step.row.empty() && seen.insert(step.row).second) {
            print("  {}: {}\n", step.row, step.reason);
        }
    }
    return {};
}

int verify_recorded(MaskedLm &model, const std::string &path, const PlanOptions &options) {
    const Result<RecordedComparison> comparison = compare_with_recorded(model, path);
    if (!comparison.ok()) {
        return fail(comparison.status());
    }
    const RecordedComparison &c = *comparison;
    const bool pass = c.pass(options.dtype, options.precision);
    print("\nRecorded PyTorch logits, {}: mean difference {:.2g}, maximum {:.2g}; {} of {} masked bytes restored, {} by PyTorch: {}\n",
          options.precision == Precision::tf32 ? "tf32" : name_of(options.dtype), c.mean_difference, c.max_difference, c.restored, c.masked, c.restored_by_recorded,
          pass ? "PASS" : "FAIL");
    return pass ? kPass : kFail;
}

int demo(const DemoOptions &o) {
    Result<PlanOptions> options = plan_options(o.run);
    Result<std::string> whole = options.ok() ? read_text(o.models + "/passage.txt") : options.status();
    if (!whole.ok()) {
        return fail(whole.status());
    }
    const auto size = static_cast<int64_t>(whole->size());
    if (o.offset < 0 || o.length < 1 || o.offset >= size || o.length > size - o.offset) {
        return fail(invalid("--offset {} --length {}: the passage has {} bytes", o.offset, o.length, size));
    }
    if (!(o.lost >= 0 && o.lost <= 1)) {
        return fail(invalid("--lost is {}, must be 0 to 1", o.lost));
    }
    if (Status status = o.svg.empty() || o.force ? Status() : check_new_file(o.svg); !status) {
        return fail({status.code(), status.message() + " (--force does)"});
    }
    Result<MaskedLm> model = MaskedLm::load(o.models + "/masked_lm.safetensors", *options);
    if (!model.ok()) {
        return fail(model.status());
    }
    if (!o.svg.empty() && !model->routed(std::min<int64_t>(model->window(), o.length))) {
        return fail(invalid("--svg is a picture of routes, and of --length {} nothing is routed: every expert takes all positions", o.length));
    }
    const std::string passage = whole->substr(static_cast<size_t>(o.offset), static_cast<size_t>(o.length));
    const std::string damaged = damage(passage, o.lost, o.seed);
    print("A model of Mixture-of-Attention layers restores damaged text.\n\nDamaged:\n{}\n", damaged);
    Progress progress("demo");
    const Result<std::string> warm = model->fill(damaged, kMark, [&](size_t done, size_t all) { progress.show(done, all); });  // plans are made here, not in the time below
    progress.clear();
    if (!warm.ok()) {
        return fail(warm.status());
    }
    const auto begin = std::chrono::steady_clock::now();
    const Result<std::string> restored = model->fill(damaged, kMark);
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    if (!restored.ok()) {
        return fail(restored.status());
    }
    print("\nRestored:\n{}\n", *restored);
    print_accuracy(passage, damaged, *restored, seconds);
    if (Status status = show_routes(*model, damaged, o); !status) {
        return fail(status);
    }
    if (Status status = show_rows(*model, std::min<int64_t>(model->window(), o.length)); !status) {
        return fail(status);
    }
    return verify_recorded(*model, o.models + "/masked_lm_sample.safetensors", *options);
}

}  // namespace

void add_demo(CLI::App &app, int &exit_code) {
    auto options = std::make_shared<DemoOptions>();
    CLI::App *command = app.add_subcommand("demo", "Damage a passage of held-out text, restore it with a trained model, and check the model's recorded logits");
    command->add_option("--models", options->models, "folder with masked_lm.safetensors, masked_lm_sample.safetensors and passage.txt")->capture_default_str();
    command->add_option("--offset", options->offset, "where in the passage to begin")->capture_default_str();
    command->add_option("--length", options->length, "bytes to damage and restore")->capture_default_str();
    command->add_option("--lost", options->lost, "fraction of the bytes to lose")->capture_default_str();
    command->add_option("--seed", options->seed, "which bytes")->capture_default_str()->check(CLI::NonNegativeNumber);
    CLI::Option *svg = command->add_option("--svg", options->svg, "write a picture of the experts' routes to this file, which must not be there");
    command->add_flag("--force", options->force, "replace the file of --svg")->needs(svg);
    add_run_options(*command, options->run, false);
    command->footer("Prints the damaged and the restored text, how many bytes are right and the time, which positions each expert chose, the\n"
                    "rows that ran and why, and how the model's logits compare with those that PyTorch recorded.\n"
                    "\n"
                    "Exit codes:\n"
                    "  0  the recorded logits are reproduced\n"
                    "  1  they are not\n"
                    "  2  an option or a file is bad; one line on standard error says why\n"
                    "  3  not supported by this build or machine\n"
                    "\n"
                    "Examples:\n"
                    "  moa demo\n"
                    "  moa demo --offset 4000 --length 2048 --lost 0.3 --dtype bf16 --svg routes.svg");
    command->callback([options, &exit_code] { exit_code = demo(*options); });
}

}  // namespace moa::tools
