#include "generators/codegen/row.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <set>
#include <string_view>

namespace moa::codegen {
namespace {

using Json = nlohmann::json;

constexpr std::string_view kDtypes[] = {"f32", "tf32", "bf16", "f16", "any"};

// Where an entry stands, for messages: "variants/project.json: row 3".
[[noreturn]] void fail(const std::string &where, const std::string &what) {
    throw std::runtime_error(where + ": " + what);
}

Json read_json(const std::string &path) {
    std::ifstream file(path);
    if (!file) {
        fail(path, "cannot be read");
    }
    try {
        return Json::parse(file);
    } catch (const Json::parse_error &e) {
        fail(path, e.what());
    }
}

bool is_name(const std::string &text) {
    const auto lower = [](char c) { return c >= 'a' && c <= 'z'; };
    return !text.empty() && lower(text[0]) && std::all_of(text.begin(), text.end(), [&](char c) {
        return lower(c) || c == '_' || (c >= '0' && c <= '9');
    });
}

void check_keys(const Json &object, const std::string &where, std::initializer_list<std::string_view> known) {
    if (!object.is_object()) {
        fail(where, "must be an object, not " + object.dump());
    }
    for (const auto &[key, value] : object.items()) {
        if (std::find(known.begin(), known.end(), key) == known.end()) {
            fail(where, "unknown key \"" + key + "\"");
        }
    }
}

std::string text_at(const Json &object, const std::string &where, const char *key) {
    if (!object.contains(key)) {
        fail(where, "lacks \"" + std::string(key) + "\"");
    }
    if (!object[key].is_string()) {
        fail(where, "\"" + std::string(key) + "\" must be a string, not " + object[key].dump());
    }
    return object[key].get<std::string>();
}

std::string name_at(const Json &object, const std::string &where, const char *key) {
    std::string name = text_at(object, where, key);
    if (!is_name(name)) {
        fail(where, "\"" + std::string(key) + "\" must be made of a-z, 0-9 and _, not \"" + name + "\"");
    }
    return name;
}

std::string name_or(const Json &object, const std::string &where, const char *key, const std::string &fallback) {
    return object.contains(key) ? name_at(object, where, key) : fallback;
}

int integer(const Json &value, const std::string &where, const std::string &name) {
    if (!value.is_number_integer() || value < 0 || value > INT32_MAX) {
        fail(where, "\"" + name + "\" must be an integer from 0 to 2^31 - 1, not " + value.dump());
    }
    return value.get<int>();
}

Json object_at(const Json &row, const std::string &where, const char *key) {
    Json object = row.value(key, Json::object());
    if (!object.is_object()) {
        fail(where, "\"" + std::string(key) + "\" must be an object, not " + object.dump());
    }
    return object;
}

Values values_at(const Json &row, const std::string &where, const char *key) {
    std::map<std::string, int> values;
    const Json object = object_at(row, where, key);
    for (const auto &[name, value] : object.items()) {
        if (!is_name(name)) {
            fail(where, "\"" + name + "\" is not a name made of a-z, 0-9 and _");
        }
        values[name] = integer(value, where, name);
    }
    return Values(std::move(values));
}

std::map<std::string, std::pair<int, int>> ranges_at(const Json &row, const std::string &where) {
    std::map<std::string, std::pair<int, int>> ranges;
    const Json object = object_at(row, where, "accept");
    for (const auto &[name, range] : object.items()) {
        if (!is_name(name) || !range.is_array() || range.size() != 2) {
            fail(where, "\"accept\" maps names to [low, high], not \"" + name + "\" to " + range.dump());
        }
        const int low = integer(range[0], where, name);
        const int high = integer(range[1], where, name);
        if (low > high) {
            fail(where, "\"accept\" range of \"" + name + "\" is empty: " + range.dump());
        }
        ranges[name] = {low, high};
    }
    return ranges;
}

Row row_of(const Json &json, const std::string &where) {
    check_keys(json, where, {"op", "schedule", "target", "dtype", "static", "knobs", "accept", "shared_bytes", "spill_bytes", "source", "note", "halide"});
    Row row;
    row.op = name_at(json, where, "op");
    row.schedule = name_at(json, where, "schedule");
    row.target = name_at(json, where, "target");
    row.dtype = name_at(json, where, "dtype");
    if (std::find(std::begin(kDtypes), std::end(kDtypes), row.dtype) == std::end(kDtypes)) {
        fail(where, "\"dtype\" must be f32, tf32, bf16, f16 or any, not \"" + row.dtype + "\"");
    }
    row.statics = values_at(json, where, "static");
    row.knobs = values_at(json, where, "knobs");
    row.accept = ranges_at(json, where);
    row.shared_bytes = integer(json.value("shared_bytes", Json(0)), where, "shared_bytes");
    row.spill_bytes = integer(json.value("spill_bytes", Json(0)), where, "spill_bytes");
    return row;
}

// Names of files in a row file are relative to it.
std::string beside(const std::string &path, const std::string &name) {
    namespace fs = std::filesystem;
    return (fs::absolute(path).parent_path() / name).lexically_normal().string();
}

std::vector<Row> rows_of_file(const std::string &path, const std::string &schedules) {
    const Json json = read_json(path);
    check_keys(json, path, {"op", "algorithm", "note", "rows"});
    const std::string op = name_at(json, path, "op");
    if (!json.contains("rows") || !json["rows"].is_array()) {
        fail(path, "\"rows\" must be a list of rows");
    }
    std::vector<Row> rows;
    for (Json entry : json["rows"]) {
        const std::string where = path + ": row " + std::to_string(rows.size() + 1);
        check_keys(entry, where, {"algorithm", "schedule", "target", "dtype", "static", "knobs", "accept", "shared_bytes", "spill_bytes", "source", "note"});
        const std::string algorithm = name_or(entry, where, "algorithm", name_or(json, path, "algorithm", op));
        entry.erase("algorithm");
        entry["op"] = op;
        Row row = row_of(entry, where);
        row.file = path;
        row.algorithm = algorithm;
        row.schedule_source = entry.contains("source") ? beside(path, text_at(entry, where, "source")) : schedules + "/" + row.algorithm + "_" + row.schedule + ".cpp";
        if (!std::filesystem::exists(row.schedule_source)) {
            fail(where, "there is no schedule source " + row.schedule_source);
        }
        rows.push_back(std::move(row));
    }
    return rows;
}

const RowTarget &target_named(const std::vector<RowTarget> &targets, const std::string &name, const std::string &where) {
    for (const RowTarget &target : targets) {
        if (target.name == name) {
            return target;
        }
    }
    std::string known;
    for (const RowTarget &target : targets) {
        known += " " + target.name;
    }
    fail(where, "unknown target \"" + name + "\"; the target table has" + known);
}

bool wanted(const Row &row, const RowFilter &filter) {
    const auto has = [](const auto &list, const auto &value) {
        return std::find(list.begin(), list.end(), value) != list.end();
    };
    const auto head_dim = row.statics.all().find("head_dim");
    const std::string storage = row.dtype == "tf32" ? "f32" : row.dtype;
    return (filter.dtypes.empty() || storage == "any" || has(filter.dtypes, storage)) &&
           (filter.head_dims.empty() || head_dim == row.statics.all().end() || has(filter.head_dims, head_dim->second));
}

}  // namespace

std::string Row::symbol() const {
    std::string text = op + "__" + schedule + "_" + target + "_" + dtype;
    for (const Values *values : {&statics, &knobs}) {
        for (const auto &[name, value] : values->all()) {
            text += "_" + name + std::to_string(value);
        }
    }
    return text;
}

std::string Row::function() const {
    return "moa_" + symbol();
}

std::vector<RowTarget> read_targets(const std::string &path) {
    const Json json = read_json(path);
    if (!json.is_array()) {
        fail(path, "must be a list of targets");
    }
    std::vector<RowTarget> targets;
    for (const Json &entry : json) {
        const std::string where = path + ": target " + std::to_string(targets.size() + 1);
        check_keys(entry, where, {"name", "halide", "features", "rows_of", "capability", "exact", "note"});
        RowTarget target{name_at(entry, where, "name"), text_at(entry, where, "halide"), {}, name_or(entry, where, "rows_of", ""), integer(entry.value("capability", Json(0)), where, "capability"), integer(entry.value("exact", Json(0)), where, "exact") != 0};
        const Json features = entry.value("features", Json::array());
        for (const Json &feature : features) {
            if (!feature.is_string() || !is_name(feature.get<std::string>())) {
                fail(where, "\"features\" must be a list of names, not " + features.dump());
            }
            target.features.push_back(feature.get<std::string>());
        }
        targets.push_back(std::move(target));
    }
    return targets;
}

std::vector<Row> read_rows(const std::vector<std::string> &paths, const std::vector<RowTarget> &targets, const std::string &schedules, const RowFilter &filter) {
    std::vector<Row> rows;
    std::map<std::string, std::string> seen;
    for (const std::string &path : paths) {
        for (Row &row : rows_of_file(path, schedules)) {
            target_named(targets, row.target, path);
            const std::string written_for = row.target;
            for (const std::string &name : filter.targets) {
                const RowTarget &target = target_named(targets, name, "the targets asked for");
                if (!wanted(row, filter) || (target.name != written_for && target.rows_of != written_for)) {
                    continue;
                }
                row.target = target.name;
                row.compiled_for = target;
                const auto [first, is_new] = seen.try_emplace(row.symbol(), path);
                if (!is_new) {
                    fail(path, "row " + row.symbol() + " is there twice (first in " + first->second + ")");
                }
                rows.push_back(row);
            }
        }
    }
    return rows;
}

std::string to_json(const Row &row) {
    Json json = {{"op", row.op}, {"schedule", row.schedule}, {"target", row.target}, {"dtype", row.dtype}, {"static", row.statics.all()}, {"knobs", row.knobs.all()}, {"halide", row.compiled_for.halide}};
    for (const auto &[name, bytes] : {std::pair{"shared_bytes", row.shared_bytes}, {"spill_bytes", row.spill_bytes}}) {
        if (bytes != 0) {
            json[name] = bytes;
        }
    }
    return json.dump(2) + "\n";
}

Row read_row(const std::string &path) {
    const Json json = read_json(path);
    Row row = row_of(json, path);
    row.file = path;
    row.compiled_for.name = row.target;
    row.compiled_for.halide = text_at(json, path, "halide");
    return row;
}

}  // namespace moa::codegen
