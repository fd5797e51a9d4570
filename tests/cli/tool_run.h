#pragma once

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <iterator>
#include <string>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

namespace moa::tools {

inline const std::string kGolden = MOA_GOLDEN_DIR;
inline const std::string kModels = MOA_MODELS_DIR;

// A folder of a test's own, gone with it.
class Folder {
public:
    Folder() {
        const testing::TestInfo *test = testing::UnitTest::GetInstance()->current_test_info();
        static int count = 0;
        path_ = std::filesystem::path(testing::TempDir()) / ("moa_" + std::string(test->test_suite_name()) + "_" + test->name() + "_" + std::to_string(::getpid()) + "_" + std::to_string(count++));
        std::filesystem::create_directories(path_);
    }
    ~Folder() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    Folder(const Folder &) = delete;
    Folder &operator=(const Folder &) = delete;

    std::string operator/(const std::string &name) const {
        return (path_ / name).string();
    }
    size_t files() const {
        return static_cast<size_t>(std::distance(std::filesystem::directory_iterator(path_), std::filesystem::directory_iterator()));
    }

private:
    std::filesystem::path path_;
};

inline std::string contents(const std::string &path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

inline void write_file(const std::string &path, const std::string &text) {
    std::ofstream(path, std::ios::binary) << text;
}

struct ToolRun {
    int exit_code = -1;
    std::string out, err;

    int error_lines() const {
        return static_cast<int>(std::count(err.begin(), err.end(), '\n'));
    }
};

inline std::string quoted(const std::string &text) {
    std::string result = "'";
    for (const char c : text) {
        result += c == '\'' ? std::string("'\\''") : std::string(1, c);
    }
    return result + "'";
}

// Runs the tool with `input` on standard input, in a folder of its own.
inline ToolRun run_tool(const std::vector<std::string> &arguments, const std::string &input = "") {
    const Folder folder;
    write_file(folder / "in", input);
    std::string command = "cd " + quoted(folder / "") + " && " + quoted(MOA_TOOL);
    for (const std::string &argument : arguments) {
        command += " " + quoted(argument);
    }
    command += " <in >out 2>err";
    const int status = std::system(command.c_str());
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, contents(folder / "out"), contents(folder / "err")};
}

}  // namespace moa::tools
