#include "tools/commands.h"
#include "tools/row_text.h"

#include "moa/rows.h"

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>

namespace moa::tools {

std::vector<std::string> missing_features(const Row &row, const DeviceDescription &device) {
    std::vector<std::string> names;
    if (row.device != device.device.type) {
        return {row.device == DeviceType::cuda ? "a GPU" : "the cpu"};
    }
    if (row.capability > device.capability || (row.exact && row.capability != device.capability)) {
        names.push_back(text("compute capability {}.{}", row.capability / 10, row.capability % 10));
    }
    if (row.shared_bytes > device.shared_bytes) {
        names.push_back(text("{} bytes of shared memory a block", row.shared_bytes));
    }
    for (int f = 0; f < static_cast<int>(CpuFeature::count); f++) {
        const auto feature = static_cast<CpuFeature>(f);
        if ((row.required & ~device.features & bit(feature)) != 0) {
            names.emplace_back(name_of(feature));
        }
    }
    return names;
}

std::string where_it_runs(const std::vector<std::string> &missing) {
    return missing.empty() ? "runs here" : text("needs {}", fmt::join(missing, ", "));
}

void Columns::add(std::vector<std::string> line) {
    widths_.resize(std::max(widths_.size(), line.size()));
    for (size_t column = 0; column < line.size(); column++) {
        widths_[column] = std::max(widths_[column], line[column].size());
    }
    lines_.push_back(std::move(line));
}

std::string Columns::text() const {
    std::string result;
    for (const std::vector<std::string> &line : lines_) {
        for (size_t column = 0; column < line.size(); column++) {
            const bool last = column + 1 == line.size();
            result += line[column] + (last ? "\n" : std::string(widths_[column] + 2 - line[column].size(), ' '));
        }
    }
    return result;
}

namespace {

using Json = nlohmann::json;

struct RowsOptions {
    std::string op, target, device;
    bool json = false;
};

Json json_of(std::span<const Parameter> parameters) {
    Json result = Json::object();
    for (const Parameter &parameter : parameters) {
        result[std::string(parameter.name)] = parameter.value;
    }
    return result;
}

Json json_of(const Row &row, const std::vector<std::string> &missing) {
    Json accepts = Json::object();
    for (const Range &range : row.accepts) {
        accepts[std::string(range.name)] = {range.low, range.high};
    }
    return {{"op", row.op}, {"name", row.name}, {"schedule", row.schedule}, {"target", row.target}, {"dtype", row.dtype}, {"static", json_of(row.statics)}, {"knobs", json_of(row.knobs)}, {"accept", accepts}, {"runs_here", missing.empty()}, {"missing_features", missing}};
}

Status check_filter(const char *option, const std::string &wanted, std::string_view Row::*field) {
    std::set<std::string_view> known;
    for (const Row &row : built_rows()) {
        known.insert(row.*field);
    }
    if (wanted.empty() || known.contains(wanted)) {
        return {};
    }
    return invalid("{} is '{}', and rows were built for {}", option, wanted, fmt::join(known, ", "));
}

int rows(const RowsOptions &o) {
    for (const Status &status : {check_filter("--op", o.op, &Row::op), check_filter("--target", o.target, &Row::target)}) {
        if (!status) {
            return fail(status);
        }
    }
    const auto chosen_row = [&](const Row &row) { return (o.op.empty() || row.op == o.op) && (o.target.empty() || row.target == o.target); };
    if (std::none_of(built_rows().begin(), built_rows().end(), chosen_row)) {
        return fail(invalid("--op is {}, and no row of it was built for --target {}", o.op, o.target));
    }
    // Without a choice, rows for GPUs are judged by the first one.
    const Result<Device> wanted = parse_device(o.device.empty() ? "cuda:0" : o.device);
    const Result<DeviceDescription> chosen = wanted.ok() ? describe_device(*wanted) : wanted.status();
    if (!o.device.empty() && !chosen.ok()) {
        return fail(chosen.status());
    }
    const DeviceDescription host = describe_host();
    Json list = Json::array();
    Columns columns;
    for (const Row &row : built_rows()) {
        if (!chosen_row(row)) {
            continue;
        }
        const bool by_chosen = chosen.ok() && (!o.device.empty() || row.device == DeviceType::cuda);
        const std::vector<std::string> missing = missing_features(row, by_chosen ? *chosen : host);
        if (o.json) {
            list.push_back(json_of(row, missing));
        } else {
            columns.add({std::string(row.op), std::string(row.target), std::string(row.dtype), where_it_runs(missing), std::string(row.name)});
        }
    }
    if (o.json) {
        print("{}\n", list.dump(2));
    }
    print("{}", columns.text());
    return kPass;
}

}  // namespace

void add_rows(CLI::App &app, int &exit_code) {
    auto options = std::make_shared<RowsOptions>();
    CLI::App *command = app.add_subcommand("rows", "List the compiled rows: the variants of each operation");
    command->add_option("--op", options->op, "those of this operation only");
    command->add_option("--device", options->device, "say which of them run there: cpu or cuda:N");
    command->add_option("--target", options->target, "those for this target only");
    command->add_flag("--json", options->json, "as a JSON array, with static sizes, knobs and what each accepts");
    command->footer("Columns: operation, target, storage dtype, whether this machine can run it, name. The order is that of preference: of an\n"
                    "operation's rows, the first that accepts a problem is taken.\n"
                    "\n"
                    "Examples:\n"
                    "  moa rows --op attention\n"
                    "  moa rows --target x86 --json");
    command->callback([options, &exit_code] { exit_code = rows(*options); });
}

}  // namespace moa::tools
