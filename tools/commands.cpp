#include "tools/commands.h"

#include "moa/rows.h"
#include "runtime/file.h"
#include "runtime/run.h"
#include "tools/cases/row_notes.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <sys/stat.h>
#include <unistd.h>

namespace moa::tools {

void write_out(std::string_view text) {
    std::fwrite(text.data(), 1, text.size(), stdout);  // main() looks for errors at the end
}

namespace {

void say(const char *kind, std::string message) {
    std::replace(message.begin(), message.end(), '\n', ' ');
    std::fprintf(stderr, "moa: %s%s\n", kind, message.c_str());
}

}  // namespace

int fail(const Status &status) {
    say("", status.message());
    return status.code() == Code::unsupported ? kUnsupported : kBadInput;
}

void warn(const std::string &message) {
    say("warning: ", message);
}

Progress::Progress(std::string what)
    : what_(std::move(what)), terminal_(::isatty(STDERR_FILENO) == 1) {
}

void Progress::say(const std::string &stage) {
    constexpr auto kPause = std::chrono::milliseconds(100);
    const auto now = std::chrono::steady_clock::now();
    if (!terminal_ || (shown_ && now - last_ < kPause)) {
        return;
    }
    const std::string line = text("\r\x1b[K{}: {}", what_, stage);
    std::fwrite(line.data(), 1, line.size(), stderr);
    shown_ = true;
    last_ = now;
}

void Progress::clear() {
    if (std::exchange(shown_, false)) {
        std::fputs("\r\x1b[K", stderr);
    }
}

void add_run_options(CLI::App &command, RunOptions &options, bool rows) {
    command.add_option("--device", options.device, "where to run: cpu, or cuda:N for an NVIDIA GPU")->capture_default_str();
    command.add_option("--dtype", options.dtype, "storage of activations and weights: f32, bf16 or (on GPUs) f16; sums are f32")->capture_default_str();
    command.add_option("--precision", options.precision, "of products of f32: exact, or (on GPUs) tf32 for tensor cores")->capture_default_str();
    command.add_option("--threads", options.threads, "most threads to use on the cpu; 0: one a core")->capture_default_str();
    if (rows) {
        command.add_option("--row", options.rows, "force this row of its operation (`moa rows` lists them); repeatable, one an operation")->allow_extra_args(false);
    }
}

Result<Device> parse_device(const std::string &name) {
    constexpr std::string_view kCuda = "cuda";
    if (name == "cpu") {
        return Device{};
    }
    Device device{DeviceType::cuda, 0};
    if (name == kCuda) {
        return device;
    }
    const char *begin = name.data() + std::min(name.size(), kCuda.size() + 1), *end = name.data() + name.size();
    const auto parsed = std::from_chars(begin, end, device.index);
    if (!name.starts_with("cuda:") || begin == end || parsed.ec != std::errc() || parsed.ptr != end || device.index < 0) {
        return invalid("--device is '{}', must be cpu, cuda or cuda:N", name);
    }
    return device;
}

Result<DeviceDescription> describe(const PlanOptions &options) {
    return describe_device(options.device);
}

namespace {

Status check_acting(const PlanOptions &options) {
    const bool cpu = options.device.type == DeviceType::cpu, tf32 = options.precision == Precision::tf32;
    if (tf32 && cpu) {
        return invalid("--precision is tf32, which GPUs have: products of f32 on the cpu are exact");
    }
    if (tf32 && options.dtype != DType::f32) {
        return invalid("--precision is tf32, a way to multiply f32, and --dtype is {}", name_of(options.dtype));
    }
    if (options.threads > 0 && !cpu) {
        return invalid("--threads is {}, and --device {} takes none of the cpu's", options.threads, name_of(options.device));
    }
    return {};
}

}  // namespace

Result<PlanOptions> plan_options(const RunOptions &given) {
    Result<PlanOptions> options = plan_options_for_rows(given);
    for (size_t i = 0; options.ok() && i < given.rows.size(); i++) {
        for (size_t j = 0; j < i; j++) {
            if (find_row(given.rows[i])->op == find_row(given.rows[j])->op) {
                return invalid("--row {} and --row {} are both of operation {}, of which one can be forced", given.rows[j], given.rows[i], find_row(given.rows[i])->op);
            }
        }
    }
    return options;
}

Result<PlanOptions> plan_options_for_rows(const RunOptions &given) {
    PlanOptions options;
    const auto &[device, dtype, precision, threads, rows] = given;
    const Result<Device> parsed = parse_device(device);
    if (!parsed.ok()) {
        return parsed.status();
    }
    options.device = *parsed;
    for (const DType known : {DType::f32, DType::bf16, DType::f16}) {
        options.dtype = dtype == name_of(known) ? known : options.dtype;
    }
    if (dtype != name_of(options.dtype)) {
        return invalid("--dtype is '{}', must be f32, bf16 or f16", dtype);
    }
    if (precision != "exact" && precision != "tf32") {
        return invalid("--precision is '{}', must be exact or tf32", precision);
    }
    options.precision = precision == "tf32" ? Precision::tf32 : Precision::exact;
    if (threads < 0 || threads > Run::kMaxThreads) {
        return invalid("--threads is {}, must be 0 (one a core) to {}", threads, Run::kMaxThreads);
    }
    options.threads = threads;
    for (const std::string &name : rows) {
        if (find_row(name) == nullptr) {
            return Status(Code::not_found, text("--row is '{}', and no row of that name was built; see moa rows", name));
        }
    }
    options.rows = rows;
    const Status acting = check_acting(options);
    return acting.ok() ? Result<PlanOptions>(options) : Result<PlanOptions>(acting);
}

Result<std::string> read_text(const std::string &path) {
    const bool standard_input = path == "-";
    const File file(standard_input ? ::dup(STDIN_FILENO) : ::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    const std::string name = standard_input ? "standard input" : path;
    if (file.descriptor() < 0) {
        return Status(errno == ENOENT ? Code::not_found : Code::io_error, text("{}: {}", name, std::strerror(errno)));
    }
    std::string content;
    constexpr size_t kChunk = size_t{1} << 16;
    for (size_t used = 0;;) {
        content.resize(used + kChunk);
        const ssize_t got = ::read(file.descriptor(), content.data() + used, kChunk);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return Status(Code::io_error, text("{}: {}", name, std::strerror(errno)));
        }
        used += static_cast<size_t>(got);
        content.resize(used);
        if (got == 0) {
            return content;
        }
    }
}

Status check_new_file(const std::string &path) {
    struct stat old {};
    return ::lstat(path.c_str(), &old) == 0 ? Status(Code::io_error, path + ": is there, and would be replaced") : Status();
}

Status write_text(const std::string &path, std::string_view content, bool replace) {
    if (Status status = replace ? Status() : check_new_file(path); !status) {
        return status;
    }
    struct stat old {};
    if (::stat(path.c_str(), &old) == 0 && !S_ISREG(old.st_mode)) {
        return {Code::io_error, path + ": is no regular file, and would be replaced"};
    }
    static std::atomic<unsigned> count{0};
    const std::string temporary = text("{}.{}.{}.tmp", path, ::getpid(), count++);  // beside it: only so is a rename atomic
    File file(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
    if (file.descriptor() < 0) {
        return {Code::io_error, text("{}: {}", path, std::strerror(errno))};
    }
    if (!file.write(content.data(), content.size()) || !file.close() || ::rename(temporary.c_str(), path.c_str()) != 0) {
        const int error = errno;
        ::unlink(temporary.c_str());
        return {Code::io_error, text("{}: {}", path, std::strerror(error))};
    }
    return {};
}

std::string models_folder() {
    std::error_code error;
    const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", error);
    const std::filesystem::path installed = program.parent_path() / MOA_INSTALLED_MODELS;
    if (!error && std::filesystem::is_directory(installed, error)) {
        return installed.lexically_normal().string();
    }
    return MOA_MODELS_DIR;
}

}  // namespace moa::tools
