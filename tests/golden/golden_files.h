#pragma once

#include "moa/rows.h"
#include "tools/cases/verify_case.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

namespace moa::tools {

// The recorded cases, small ones first, by path. Tests that were carried to another machine find them by the environment.
inline std::vector<std::string> golden_files() {
    std::vector<std::string> files;
    const char *carried = std::getenv("MOA_TEST_GOLDEN");
    const std::string golden = carried != nullptr ? carried : MOA_GOLDEN_DIR;
    for (const std::string &folder : {golden, golden + "/large"}) {
        std::vector<std::string> found;
        for (const auto &entry : std::filesystem::directory_iterator(folder)) {
            if (entry.path().extension() == ".safetensors") {
                found.push_back(entry.path().string());
            }
        }
        std::sort(found.begin(), found.end());
        files.insert(files.end(), found.begin(), found.end());
    }
    return files;
}

// Whether this build has what verifying in a dtype takes: rows of it and, below f32, of f32.
inline bool built_for(DType dtype, Precision precision = Precision::exact, DeviceType device = DeviceType::cpu) {
    const auto has = [&](std::string_view wanted) {
        const auto rows = built_rows();
        return std::any_of(rows.begin(), rows.end(), [&](const Row &row) { return row.device == device && row.dtype == wanted; });
    };
    return has(precision == Precision::tf32 ? "tf32" : name_of(dtype)) && has("f32");
}

// What GoogleTest allows in names.
inline std::string test_name(const std::string &text) {
    std::string name = text;
    std::replace_if(
        name.begin(), name.end(), [](unsigned char c) { return std::isalnum(c) == 0; }, '_');
    return name;
}

inline std::string describe(const CaseReport &report) {
    std::string text = report.reason;
    for (const OutputReport &output : report.outputs) {
        text += "\n  " + output.describe();
    }
    return text;
}

}  // namespace moa::tools
