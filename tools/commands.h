#pragma once

#include "moa/plan.h"
#include "moa/status.h"
#include "runtime/text.h"

#include <CLI/CLI.hpp>

#include <chrono>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

// The commands of the tool, and what they share. Results go to standard output, progress and errors to standard error.
namespace moa::tools {

// Exit codes of every command.
constexpr int kPass = 0;
constexpr int kFail = 1;         // a result is wrong
constexpr int kBadInput = 2;     // options, files or devices that cannot be used: one line on standard error
constexpr int kUnsupported = 3;  // valid, but not what this build or machine can do

// The whole command: parses its arguments, does what they say, and returns the exit code.
int run_commands(int argc, char **argv);

void write_out(std::string_view text);

template<class... Args>
void print(fmt::format_string<Args...> format, Args &&...args) {
    write_out(fmt::format(format, std::forward<Args>(args)...));
}

// Prints the message in one line on standard error. Returns kUnsupported for what this build or machine cannot do, else kBadInput.
int fail(const Status &status);
// The same for what a user should know of results that are right.
void warn(const std::string &message);

// A line on standard error that says how far a command is; nothing unless that is a terminal.
class Progress {
public:
    explicit Progress(std::string what);
    ~Progress() {
        clear();
    }
    Progress(const Progress &) = delete;
    Progress &operator=(const Progress &) = delete;

    void show(size_t done, size_t all) {
        say(text("{} of {}", done, all));
    }
    // At most ten times a second, so that it costs nothing.
    void say(const std::string &stage);
    void clear();

private:
    std::string what_;
    bool terminal_;
    bool shown_ = false;
    std::chrono::steady_clock::time_point last_{};
};

// Where and how layers run, as every command takes it.
struct RunOptions {
    std::string device = "cpu", dtype = "f32", precision = "exact";
    int threads = 0;
    std::vector<std::string> rows;
};
// --device, --dtype, --precision, --threads and, if they may be forced, --row.
void add_run_options(CLI::App &command, RunOptions &options, bool rows);

// Fails for names of devices, dtypes and rows that there are not, and for options that could not act: a precision or a number of
// threads that the device does not have, two rows of one operation.
Result<PlanOptions> plan_options(const RunOptions &options);
// The same without a word about rows, of which the caller may take several of one operation.
Result<PlanOptions> plan_options_for_rows(const RunOptions &options);
Result<Device> parse_device(const std::string &name);
// A GPU's description, or the host's.
Result<DeviceDescription> describe(const PlanOptions &options);

// A file, or standard input for "-".
Result<std::string> read_text(const std::string &path);
// The file appears whole or not at all. One of that name is replaced, or, without `replace`, an error.
Status write_text(const std::string &path, std::string_view content, bool replace);
Status check_new_file(const std::string &path);  // the error that write_text without `replace` will give, if any

// The folder of the model that comes with the tool: beside an installed tool, else in the source tree.
std::string models_folder();

// Each adds a command, which leaves its exit code in `exit_code`.
void add_bench(CLI::App &app, int &exit_code);
void add_demo(CLI::App &app, int &exit_code);
void add_devices(CLI::App &app, int &exit_code);
void add_fill(CLI::App &app, int &exit_code);
void add_rows(CLI::App &app, int &exit_code);
void add_run(CLI::App &app, int &exit_code);
void add_verify(CLI::App &app, int &exit_code);

}  // namespace moa::tools
