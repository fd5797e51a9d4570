#include "tools/commands.h"

#include "moa/version.h"

#include <cstdio>
#include <exception>

namespace moa::tools {

namespace {

constexpr const char *kDescription = "moa: Mixture-of-Attention layers from kernels that were compiled ahead of time.\n"
                                     "\n"
                                     "Shows what this build holds, checks it against results recorded from PyTorch, runs it and times it.";
constexpr const char *kFooter = "Exit codes:\n"
                                "  0  all is well\n"
                                "  1  a result is wrong\n"
                                "  2  options, files or devices that cannot be used; one line on standard error says why\n"
                                "  3  valid, but not supported by this build or machine\n"
                                "\n"
                                "Examples:\n"
                                "  moa demo\n"
                                "  moa verify tests/golden/*.safetensors\n"
                                "  echo 'glory, an_ wisdom, and_thanksgiving' | moa fill --text -\n"
                                "  moa verify --help";

void add_commands(CLI::App &app, int &exit_code) {
    add_demo(app, exit_code);
    add_fill(app, exit_code);
    add_verify(app, exit_code);
    add_run(app, exit_code);
    add_bench(app, exit_code);
    add_rows(app, exit_code);
    add_devices(app, exit_code);
}

// Whose options were being parsed when parsing failed.
std::string name_of_parsed(const CLI::App &app) {
    const auto parsed = app.get_subcommands();
    return parsed.empty() ? app.get_name() : app.get_name() + " " + parsed.back()->get_name();
}

int run(int argc, char **argv) {
    int exit_code = kPass;
    CLI::App app(kDescription, "moa");
    app.footer(kFooter);
    app.set_version_flag("--version", "moa " MOA_VERSION);
    app.require_subcommand(0, 1);  // 1 would hide what an unknown word is
    add_commands(app, exit_code);
    try {
        app.parse(argc, argv);
        if (app.get_subcommands().empty()) {
            print("{}", app.help());
        }
    } catch (const CLI::Success &success) {  // --help and --version
        app.exit(success);
    } catch (const CLI::ParseError &error) {
        const std::string name = name_of_parsed(app);
        return fail({Code::invalid_argument, text("{} (see {} --help)", error.what(), name)});
    }
    return exit_code;
}

}  // namespace

int run_commands(int argc, char **argv) {
    int exit_code = kBadInput;
    try {
        exit_code = run(argc, argv);
    } catch (const std::exception &error) {
        exit_code = fail({Code::internal, error.what()});
    }
    if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) {
        exit_code = fail({Code::io_error, "standard output cannot be written"});
    }
    return exit_code;
}

}  // namespace moa::tools
