#include "tools/commands.h"
#include "tools/row_text.h"

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>

namespace moa::tools {

namespace {

using Json = nlohmann::json;

struct Target {
    std::string_view name;
    int64_t rows = 0;
    std::vector<std::string> missing;
};

// Targets of the rows that were built, in the order in which they first appear.
std::vector<Target> targets_of(const DeviceDescription &device) {
    std::vector<Target> targets;
    for (const Row &row : built_rows()) {
        auto found = std::find_if(targets.begin(), targets.end(), [&](const Target &t) { return t.name == row.target; });
        if (found == targets.end()) {
            found = targets.insert(targets.end(), {row.target, 0, missing_features(row, device)});
        }
        found->rows++;
    }
    return targets;
}

std::vector<std::string> features_of(const DeviceDescription &device) {
    std::vector<std::string> names;
    for (int f = 0; f < static_cast<int>(CpuFeature::count); f++) {
        if ((device.features & bit(static_cast<CpuFeature>(f))) != 0) {
            names.emplace_back(name_of(static_cast<CpuFeature>(f)));
        }
    }
    return names;
}

void print_json(const DeviceDescription &device, const std::vector<Target> &targets) {
    Json list = Json::array();
    for (const Target &target : targets) {
        list.push_back({{"name", target.name}, {"rows", target.rows}, {"runs_here", target.missing.empty()}, {"missing_features", target.missing}});
    }
    const Json result = Json::array({{{"device", name_of(device.device)}, {"name", device.name}, {"cores", device.cores}, {"features", features_of(device)}, {"targets", list}}});
    print("{}\n", result.dump(2, ' ', false, Json::error_handler_t::replace));
}

int devices(bool json) {
    const DeviceDescription host = describe_host();
    const std::vector<Target> targets = targets_of(host);
    if (json) {
        print_json(host, targets);
        return kPass;
    }
    print("{}: {}, {} cores for this process\n  features: {}\n  targets that rows were built for:\n", name_of(host.device), host.name, host.cores, text("{}", fmt::join(features_of(host), " ")));
    for (const Target &target : targets) {
        print("    {:<18}{:>4} rows  {}\n", target.name, target.rows, target.missing.empty() ? "runs here" : text("needs {}", fmt::join(target.missing, ", ")));
    }
    return kPass;
}

}  // namespace

void add_devices(CLI::App &app, int &exit_code) {
    auto json = std::make_shared<bool>(false);
    CLI::App *command = app.add_subcommand("devices", "Show the devices that layers can run on, and which targets' rows run there");
    command->add_flag("--json", *json, "as a JSON array");
    command->footer("Example:\n  moa devices --json");
    command->callback([json, &exit_code] { exit_code = devices(*json); });
}

}  // namespace moa::tools
