#include "generators/codegen/checks.h"
#include "generators/codegen/cuda/stated.h"
#include "generators/codegen/kernel.h"
#include "generators/codegen/object_file.h"
#include "generators/codegen/prefetch.h"
#include "generators/codegen/tiles.h"

#include <exception>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <map>
#include <sstream>
#include <string_view>
#include <unistd.h>

// The generator program: compiles one row, or Halide's runtime for a target, to an object file. CMake links one such
// program an algorithm, so that an edited schedule recompiles the rows of its algorithm and no others.
namespace moa::codegen {
namespace {

namespace fs = std::filesystem;
using OutputType = Halide::OutputFileType;

struct Options {
    std::string row;      // file with one row
    std::string runtime;  // Halide target string
    std::string output;
    std::map<OutputType, std::string> extra;
    cuda::CudaOptions cuda;
};

constexpr const char *kUsage =
    "usage: moa_generator (--row FILE | --runtime HALIDE_TARGET) -o OBJECT [--stmt FILE] [--assembly FILE]\n"
    "                     [--ptxas PROGRAM --cubins SM,SM] [--ptx FILE]\n"
    "  --row FILE      one row, as moa_rows writes it\n"
    "  --runtime T     Halide's runtime for target T, without kernels\n"
    "  --stmt FILE     also write Halide's lowered form of the row\n"
    "  --assembly FILE also write the row's assembly\n"
    "For rows of CUDA targets:\n"
    "  --ptxas PROGRAM the assembler; without it there is PTX only\n"
    "  --cubins 80,90  architectures whose machine code is embedded, too\n"
    "  --ptx FILE      also write the PTX\n";

std::vector<int> architectures(const std::string &list) {
    std::vector<int> result;
    std::stringstream stream(list);
    for (std::string item; std::getline(stream, item, ',');) {
        if (item.empty() || item.find_first_not_of("0123456789") != std::string::npos || item.size() > 4) {
            throw std::runtime_error("architectures must be numbers as in 80,90, not \"" + item + "\"");
        }
        result.push_back(std::stoi(item));
    }
    return result;
}

Options parse(int argc, char **argv) {
    Options options;
    for (int i = 1; i < argc; i++) {
        const std::string argument = argv[i];
        if (i + 1 == argc) {
            throw std::runtime_error(argument + " needs a value\n" + kUsage);
        }
        const std::string value = argv[++i];
        if (argument == "--row") {
            options.row = value;
        } else if (argument == "--runtime") {
            options.runtime = value;
        } else if (argument == "-o") {
            options.output = value;
        } else if (argument == "--stmt") {
            options.extra[OutputType::stmt] = value;
        } else if (argument == "--ptxas") {
            options.cuda.ptxas = value;
        } else if (argument == "--cubins") {
            options.cuda.cubins = architectures(value);
        } else if (argument == "--ptx") {
            options.cuda.ptx_file = value;
        } else if (argument == "--assembly") {
            options.extra[OutputType::assembly] = value;
        } else {
            throw std::runtime_error("unknown option " + argument + "\n" + kUsage);
        }
    }
    if (options.row.empty() == options.runtime.empty() || options.output.empty()) {
        throw std::runtime_error(kUsage);
    }
    return options;
}

Halide::Target parse_target(const std::string &text) {
    if (!Halide::Target::validate_target_string(text)) {
        throw std::runtime_error("\"" + text + "\" is not a Halide target");
    }
    return Halide::Target(text);
}

// A file beside its final place until commit(): a failure leaves neither a part of a file nor a changed one.
class Draft {
public:
    explicit Draft(std::string path)
        : path_(std::move(path)), draft_(path_ + "." + std::to_string(getpid()) + ".tmp") {
    }
    ~Draft() {
        std::error_code ignored;
        fs::remove(draft_, ignored);
    }
    Draft(const Draft &) = delete;
    Draft &operator=(const Draft &) = delete;

    const std::string &name() const {
        return draft_;
    }
    std::vector<char> bytes() const {
        return read(draft_);
    }
    void write(const std::vector<char> &bytes) {
        std::ofstream file(draft_, std::ios::binary);
        file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
        if (!file.flush()) {
            throw std::runtime_error(draft_ + ": cannot be written");
        }
    }
    // A file that would not change keeps its time, so that nothing is rebuilt for it.
    void commit() {
        if (!fs::exists(path_) || read(path_) != bytes()) {
            fs::rename(draft_, path_);
        }
    }

private:
    static std::vector<char> read(const std::string &path) {
        std::ifstream file(path, std::ios::binary);
        return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
    }

    std::string path_;
    std::string draft_;
};

// Says which row a warning is about, and leaves out the one that no row can heed: bf16 is for storage here.
class Reporter : public Halide::CompileTimeErrorReporter {
public:
    explicit Reporter(std::string about)
        : about_(std::move(about)) {
    }
    void warning(const char *message) override {
        if (std::string_view(message).find("(b)float16 type operation is emulated") == std::string_view::npos) {
            std::cerr << about_ << ": " << message << "\n";
        }
    }
    [[noreturn]] void error(const char *message) override {
        throw std::runtime_error(about_ + ": " + message);
    }

private:
    std::string about_;
};

void compile_row(const Row &row, const cuda::CudaOptions &options, const std::map<OutputType, std::string> &files) {
    const auto operation = operations().find(row.op);
    if (operation == operations().end()) {
        throw std::runtime_error(row.symbol() + ": this program has no operation named " + row.op);
    }
    // Checks of buffers stay on: they turn a mistake of the runtime into an error instead of memory corruption.
    const Halide::Target target = parse_target(row.compiled_for.halide)
                                      .with_feature(Halide::Target::UserContext)
                                      .with_feature(Halide::Target::NoRuntime)
                                      .with_feature(Halide::Target::NoBoundsQuery);
    static Reporter reporter(row.symbol());  // must outlive every use of Halide
    Halide::set_custom_compile_time_error_reporter(&reporter);
    const Kernel kernel = operation->second(row, target);
    if (target.has_feature(Halide::Target::CUDA)) {
        const std::string warning = cuda::check_stated(row, cuda::compile_cuda(kernel, row.function(), target, options, files));
        if (!warning.empty()) {
            reporter.warning(warning.c_str());
        }
    } else {
        Halide::Pipeline pipeline(kernel.outputs);
        pipeline.add_custom_lowering_pass(new PrefetchLines);
        pipeline.add_custom_lowering_pass(new JoinTiles);
        pipeline.add_custom_lowering_pass(new EndOfChecks);
        pipeline.compile_to(files, kernel.arguments, row.function(), target);
    }
}

void run(const Options &options) {
    Draft object(options.output);
    std::map<OutputType, std::string> files = options.extra;
    files[OutputType::object] = object.name();
    if (options.row.empty()) {
        Halide::compile_standalone_runtime(files, parse_target(options.runtime));
    } else {
        compile_row(read_row(options.row), options.cuda, files);
    }
    object.write(make_private(object.bytes()));
    object.commit();
}

}  // namespace
}  // namespace moa::codegen

int main(int argc, char **argv) {
    try {
        moa::codegen::run(moa::codegen::parse(argc, argv));
        return 0;
    } catch (const std::exception &e) {
        std::cerr << "moa_generator: " << e.what() << "\n";
        return 2;
    }
}
