#include "tools/cases/recorded_case.h"

#include "runtime/text.h"

#include <array>
#include <cassert>
#include <utility>

namespace moa::tools {

namespace {

// Python writes Infinity and NaN, which JSON does not have. Here, of which nothing depends on them, they become null.
std::string strict_json(std::string_view text) {
    constexpr std::array<std::string_view, 3> kNumbers{"-Infinity", "Infinity", "NaN"};
    std::string result;
    bool quoted = false;
    for (size_t at = 0; at < text.size();) {
        size_t skip = 0;
        for (const std::string_view number : kNumbers) {
            skip = skip == 0 && !quoted && text.substr(at).starts_with(number) ? number.size() : skip;
        }
        if (skip > 0) {
            result += "null";
            at += skip;
            continue;
        }
        if (quoted && text[at] == '\\' && at + 1 < text.size()) {
            result += text[at++];
        } else if (text[at] == '"') {
            quoted = !quoted;
        }
        result += text[at++];
    }
    return result;
}

Json object_at(const Json &config, const char *name) {
    const auto found = config.find(name);
    return found == config.end() || found->is_null() ? Json::object() : *found;
}

Status read_config(const Json &config, RecordedCase &result) {
    const auto module = config.find("module"), name = config.find("name");
    if (module == config.end() || !module->is_string()) {
        return invalid("the config of its case names no module");
    }
    result.module = module->get<std::string>();
    result.name = name != config.end() && name->is_string() ? name->get<std::string>() : "";
    result.init = object_at(config, "init");
    result.call = object_at(config, "call");
    if (!result.init.is_object() || !result.call.is_object()) {
        return invalid("init and call of its case are not keyword arguments");
    }
    const auto fix = config.find("fix");
    if (fix == config.end()) {
        return {};
    }
    for (const Json &item : *fix) {
        if (!fix->is_array() || !item.is_string()) {
            return invalid("fix of its case is not a list of names");
        }
        result.fix.insert(item.get<std::string>());
    }
    return {};
}

}  // namespace

Result<RecordedCase> RecordedCase::open(const std::string &path) {
    Result<SafeTensors> file = SafeTensors::open(path);
    if (!file.ok()) {
        return file.status();
    }
    const auto metadata = file->metadata().find("case");
    if (metadata == file->metadata().end()) {
        return invalid("{}: no case in the metadata", path);
    }
    constexpr size_t kLongest = size_t{1} << 20;  // a case is a few hundred bytes; parsing takes many times its size
    if (metadata->second.size() > kLongest) {
        return invalid("{}: the metadata's case has {} bytes, at most {} are allowed", path, metadata->second.size(), kLongest);
    }
    const Json json = Json::parse(strict_json(metadata->second), nullptr, false);
    if (!json.is_object() || !json.contains("config") || !json["config"].is_object()) {
        return invalid("{}: the metadata's case is no JSON object with a config", path);
    }
    RecordedCase result{"", "", {}, {}, {}, *std::move(file)};
    if (Status status = read_config(json["config"], result); !status) {
        return Status(status.code(), path + ": " + status.message());
    }
    return result;
}

HostTensor RecordedCase::tensor(const std::string &tensor_name) const {
    assert(has(tensor_name));
    return HostTensor::copy_of(file.tensors().find(tensor_name)->second);
}

const Json *Keywords::take(const char *name, bool accepted(const Json &), const char *type) {
    taken_.insert(name);
    const auto found = object_.find(name);
    if (found == object_.end() || found->is_null()) {
        return nullptr;
    }
    if (!accepted(*found)) {
        if (status_.ok()) {
            status_ = invalid("{}: {} is {}, must be {}", owner_, name, found->dump(-1, ' ', true, Json::error_handler_t::replace), type);
        }
        return nullptr;
    }
    return &*found;
}

namespace {

bool is_bool(const Json &value) {
    return value.is_boolean();
}
// Sizes beyond these bounds fit no machine, and sums of a few of them no int64.
bool is_size(const Json &value) {
    constexpr int64_t kLargest = int64_t{1} << 40;
    return value.is_number_integer() && (!value.is_number_unsigned() || value.get<uint64_t>() < uint64_t{kLargest}) && value.get<int64_t>() > -kLargest;
}
bool is_number(const Json &value) {
    return value.is_number();
}

}  // namespace

void Keywords::read(const char *name, bool &value) {
    const Json *given = take(name, is_bool, "true or false");
    value = given != nullptr ? given->get<bool>() : value;
}

void Keywords::read(const char *name, int64_t &value) {
    const Json *given = take(name, is_size, "an integer of at most 2^40");
    value = given != nullptr ? given->get<int64_t>() : value;
}

void Keywords::read(const char *name, double &value) {
    const Json *given = take(name, is_number, "a number");
    value = given != nullptr ? given->get<double>() : value;
}

void Keywords::read(const char *name, std::optional<bool> &value) {
    bool given = value.value_or(false);
    read(name, given);
    if (const auto found = object_.find(name); found != object_.end() && found->is_boolean()) {
        value = given;
    }
}

void Keywords::read(const char *name, std::optional<int64_t> &value) {
    const Json *given = take(name, is_size, "an integer of at most 2^40");
    if (object_.contains(name)) {
        value = given != nullptr ? std::optional<int64_t>(given->get<int64_t>()) : std::nullopt;
    }
}

void Keywords::read(const char *name, std::optional<double> &value) {
    const Json *given = take(name, is_number, "a number");
    if (object_.contains(name)) {
        value = given != nullptr ? std::optional<double>(given->get<double>()) : std::nullopt;
    }
}

void Keywords::ignore(std::initializer_list<const char *> names) {
    taken_.insert(names.begin(), names.end());
}

Status Keywords::finish() const {
    if (!status_.ok()) {
        return status_;
    }
    for (const auto &[name, value] : object_.items()) {
        if (!taken_.contains(name) && !value.is_null()) {
            return {Code::unsupported, text("{}: no such option as {} here", owner_, name)};
        }
    }
    return {};
}

}  // namespace moa::tools
