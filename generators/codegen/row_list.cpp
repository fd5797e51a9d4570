#include "generators/codegen/row.h"

#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <sstream>

// moa_rows: tells CMake which rows there are. Prints one line a row, "symbol<TAB>algorithm<TAB>schedule source", and writes into
// a folder one JSON file a row, which the row's object depends on, and variants.cpp, the table that the runtime reads.
namespace moa::codegen {
namespace {

struct Options {
    std::string targets;
    std::string schedules;
    std::string output;
    RowFilter filter;
    std::vector<std::string> files;
};

constexpr const char *kUsage = "usage: moa_rows --targets FILE --schedules DIR --output DIR --row-targets A,B [--dtypes A,B] [--head-dims A,B] ROWFILE...\n";

std::vector<std::string> split(const std::string &list) {
    std::vector<std::string> items;
    std::stringstream stream(list);
    for (std::string item; std::getline(stream, item, ',');) {
        items.push_back(item);
    }
    return items;
}

int parse_head_dim(const std::string &text) {
    size_t used = 0;
    int value = 0;
    try {
        value = std::stoi(text, &used);
    } catch (const std::exception &) {
        used = 0;
    }
    if (used != text.size() || value < 1) {
        throw std::runtime_error("head dimensions must be positive integers, not \"" + text + "\"");
    }
    return value;
}

Options parse(int argc, char **argv) {
    Options options;
    for (int i = 1; i < argc; i++) {
        const std::string argument = argv[i];
        if (argument.rfind("--", 0) != 0) {
            options.files.push_back(argument);
            continue;
        }
        if (i + 1 == argc) {
            throw std::runtime_error(argument + " needs a value\n" + kUsage);
        }
        const std::string value = argv[++i];
        if (argument == "--targets") {
            options.targets = value;
        } else if (argument == "--schedules") {
            options.schedules = value;
        } else if (argument == "--output") {
            options.output = value;
        } else if (argument == "--row-targets") {
            options.filter.targets = split(value);
        } else if (argument == "--dtypes") {
            options.filter.dtypes = split(value);
        } else if (argument == "--head-dims") {
            for (const std::string &item : split(value)) {
                options.filter.head_dims.push_back(parse_head_dim(item));
            }
        } else {
            throw std::runtime_error("unknown option " + argument + "\n" + kUsage);
        }
    }
    if (options.targets.empty() || options.schedules.empty() || options.output.empty()) {
        throw std::runtime_error(kUsage);
    }
    return options;
}

std::string contents(const std::string &path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

// Files that stay the same keep their time, so that nothing is rebuilt for them.
void write_if_different(const std::string &path, const std::string &text) {
    if (std::filesystem::exists(path) && contents(path) == text) {
        return;
    }
    std::ofstream file(path, std::ios::binary);
    file << text;
    if (!file.flush()) {
        throw std::runtime_error(path + ": cannot be written");
    }
}

std::string parameters(const std::string &name, const Values &values) {
    std::string text = "constexpr Parameter " + name + "[] = {";
    for (const auto &[key, value] : values.all()) {
        text += "{\"" + key + "\", " + std::to_string(value) + "}, ";
    }
    return values.all().empty() ? "" : text + "};\n";
}

std::string ranges(const std::string &name, const Row &row) {
    std::string text = "constexpr Range " + name + "[] = {";
    for (const auto &[key, range] : row.accept) {
        text += "{\"" + key + "\", " + std::to_string(range.first) + ", " + std::to_string(range.second) + "}, ";
    }
    return row.accept.empty() ? "" : text + "};\n";
}

std::string entry(const Row &row, const std::string &index) {
    const auto span = [&](const std::string &name, bool empty) { return empty ? std::string("{}") : name + index; };
    std::string required;
    for (const std::string &feature : row.compiled_for.features) {
        required += (required.empty() ? "" : " | ") + ("bit(CpuFeature::" + feature + ")");
    }
    return "    {\"" + row.symbol() + "\", \"" + row.op + "\", \"" + row.schedule + "\", \"" + row.target + "\", \"" + row.dtype + "\", " +
           (required.empty() ? "0" : required) + ", " + span("statics_", row.statics.all().empty()) + ", " +
           span("knobs_", row.knobs.all().empty()) + ", " + span("accepts_", row.accept.empty()) + ", " + row.function() + "_argv, " +
           (row.compiled_for.capability != 0 ? "DeviceType::cuda, " : "DeviceType::cpu, ") + std::to_string(row.compiled_for.capability) + ", " +
           std::to_string(row.shared_bytes) + (row.compiled_for.exact ? ", true" : ", false") + "},\n";
}

std::string table(const std::vector<Row> &rows) {
    std::string functions;
    std::string lists;
    std::string entries;
    for (size_t i = 0; i < rows.size(); i++) {
        const std::string index = std::to_string(i);
        functions += "int " + rows[i].function() + "_argv(void **);\n";
        lists += parameters("statics_" + index, rows[i].statics) + parameters("knobs_" + index, rows[i].knobs) + ranges("accepts_" + index, rows[i]);
        entries += entry(rows[i], index);
    }
    std::string text = "// Written by moa_rows from the row files; changes are lost.\n#include \"moa/rows.h\"\n\n";
    text += "extern \"C\" {\n" + functions + "}\n\nnamespace moa {\n";
    if (rows.empty()) {
        return text + "std::span<const Row> built_rows() {\n    return {};\n}\n}  // namespace moa\n";
    }
    text += "namespace {\n" + lists + "\nconstinit const Row kRows[] = {\n" + entries + "};\n}  // namespace\n\n";
    return text + "std::span<const Row> built_rows() {\n    return kRows;\n}\n}  // namespace moa\n";
}

void run(const Options &options) {
    const std::vector<Row> rows = read_rows(options.files, read_targets(options.targets), options.schedules, options.filter);
    std::filesystem::create_directories(options.output);
    for (const Row &row : rows) {
        write_if_different(options.output + "/" + row.symbol() + ".json", to_json(row));
        std::cout << row.symbol() << "\t" << row.algorithm << "\t" << row.schedule_source << "\n";
    }
    write_if_different(options.output + "/variants.cpp", table(rows));
}

}  // namespace
}  // namespace moa::codegen

int main(int argc, char **argv) {
    try {
        moa::codegen::run(moa::codegen::parse(argc, argv));
        return 0;
    } catch (const std::exception &e) {
        std::cerr << "moa_rows: " << e.what() << "\n";
        return 2;
    }
}
