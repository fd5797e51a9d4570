#include "generators/codegen/cuda/ptxas.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <regex>
#include <spawn.h>
#include <stdexcept>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

namespace moa::codegen::cuda {
namespace {

namespace fs = std::filesystem;

class TemporaryFolder {
public:
    TemporaryFolder() {
        std::string pattern = (fs::temp_directory_path() / "moa_ptxas_XXXXXX").string();
        if (mkdtemp(pattern.data()) == nullptr) {
            throw std::runtime_error("no temporary folder " + pattern + ": " + std::strerror(errno));
        }
        path_ = pattern;
    }
    ~TemporaryFolder() {
        std::error_code ignored;
        fs::remove_all(path_, ignored);
    }
    TemporaryFolder(const TemporaryFolder &) = delete;
    TemporaryFolder &operator=(const TemporaryFolder &) = delete;

    std::string file(const char *name) const {
        return (path_ / name).string();
    }

private:
    fs::path path_;
};

std::string contents(const std::string &path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

// Both streams go to one file. The exit status, or -1 if the program did not come to an end by itself.
int run(const std::vector<std::string> &command, const std::string &log) {
    std::vector<char *> arguments;
    arguments.reserve(command.size() + 1);
    for (const std::string &argument : command) {
        arguments.push_back(const_cast<char *>(argument.c_str()));
    }
    arguments.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, log.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO);
    pid_t child = 0;
    const int error = posix_spawnp(&child, command[0].c_str(), &actions, nullptr, arguments.data(), environ);
    posix_spawn_file_actions_destroy(&actions);
    if (error != 0) {
        throw std::runtime_error(command[0] + " cannot be run: " + std::strerror(error));
    }
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

int largest(const std::string &log, const std::regex &pattern) {
    int most = 0;
    for (auto it = std::sregex_iterator(log.begin(), log.end(), pattern); it != std::sregex_iterator(); ++it) {
        most = std::max(most, std::stoi((*it)[1]));
    }
    return most;
}

}  // namespace

KernelFigures figures_of(const std::string &log) {
    KernelFigures figures;
    figures.registers = largest(log, std::regex(R"(Used (\d+) registers)"));
    figures.stack_bytes = largest(log, std::regex(R"((\d+) bytes stack frame)"));
    figures.spill_bytes = std::max(largest(log, std::regex(R"((\d+) bytes spill stores)")), largest(log, std::regex(R"((\d+) bytes spill loads)")));
    figures.shared_bytes = largest(log, std::regex(R"((\d+) bytes smem)"));
    return figures;
}

Assembled assemble(const std::string &ptxas, const std::string &ptx, const std::string &architecture) {
    const TemporaryFolder folder;
    const std::string source = folder.file("kernel.ptx"), cubin = folder.file("kernel.cubin"), log = folder.file("log");
    std::ofstream(source, std::ios::binary) << ptx;
    const int status = run({ptxas, "-v", "-arch=sm_" + architecture, source, "-o", cubin}, log);
    Assembled assembled;
    assembled.log = contents(log);
    assembled.cubin = contents(cubin);
    if (status != 0 || assembled.cubin.empty()) {
        throw std::runtime_error("ptxas refuses the kernel for sm_" + architecture + ":\n" + assembled.log);
    }
    assembled.figures = figures_of(assembled.log);
    return assembled;
}

std::string compress(const std::string &ptxas, const std::string &cubin, const std::string &architecture) {
    std::error_code missing;
    const fs::path program = fs::canonical(ptxas, missing).replace_filename("fatbinary");
    if (missing || !fs::exists(program)) {
        return cubin;
    }
    const TemporaryFolder folder;
    const std::string source = folder.file("kernel.cubin"), compressed = folder.file("kernel.fatbin"), log = folder.file("log");
    std::ofstream(source, std::ios::binary) << cubin;
    const std::string image = "--image3=kind=elf,sm=" + architecture + ",file=" + source;
    const int status = run({program.string(), "--64", "--compress-all", "--create=" + compressed, image}, log);
    std::string result = contents(compressed);
    if (status != 0 || result.empty()) {
        throw std::runtime_error("fatbinary refuses the machine code for sm_" + architecture + ":\n" + contents(log));
    }
    return result;
}

}  // namespace moa::codegen::cuda
