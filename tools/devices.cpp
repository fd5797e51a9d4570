#include "moa/cuda.h"
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

// Targets of the rows that were built for devices of this kind, in the order in which they first appear.
std::vector<Target> targets_of(const DeviceDescription &device) {
    std::vector<Target> targets;
    for (const Row &row : built_rows()) {
        if (row.device != device.device.type) {
            continue;
        }
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

Json json_of(const DeviceDescription &device) {
    Json list = Json::array();
    for (const Target &target : targets_of(device)) {
        list.push_back({{"name", target.name}, {"rows", target.rows}, {"runs_here", target.missing.empty()}, {"missing_features", target.missing}});
    }
    Json json{{"device", name_of(device.device)}, {"name", device.name}, {"targets", list}};
    if (device.device.type == DeviceType::cpu) {
        json["cores"] = device.cores;
        json["features"] = features_of(device);
    } else {
        json["multiprocessors"] = device.cores;
        json["capability"] = text("{}.{}", device.capability / 10, device.capability % 10);
        json["shared_bytes"] = device.shared_bytes;
        json["memory_bytes"] = device.memory_bytes;
    }
    return json;
}

void print_device(const DeviceDescription &device) {
    if (device.device.type == DeviceType::cpu) {
        print("{}: {}, {} cores for this process\n  features: {}\n", name_of(device.device), device.name, device.cores, text("{}", fmt::join(features_of(device), " ")));
    } else {
        print("{}: {}, compute capability {}.{}, {} multiprocessors, {} KiB of shared memory a block, {:.1f} GiB\n", name_of(device.device), device.name, device.capability / 10,
              device.capability % 10, device.cores, device.shared_bytes / 1024, static_cast<double>(device.memory_bytes) / (1 << 30));
    }
    print("  targets that rows were built for:\n");
    Columns columns;
    for (const Target &target : targets_of(device)) {
        columns.add({"  ", std::string(target.name), text("{} rows", target.rows), where_it_runs(target.missing)});
    }
    print("{}", columns.text());
}

int devices(bool json) {
    std::vector<DeviceDescription> all{describe_host()};
    std::vector<std::string> unusable;
    for (int index = 0; index < std::max(cuda::device_count(), 1); index++) {
        const Result<DeviceDescription> gpu = describe_device({DeviceType::cuda, index});
        gpu.ok() ? all.push_back(*gpu) : unusable.push_back(gpu.status().message());
    }
    if (json) {
        Json list = Json::array();
        for (const DeviceDescription &device : all) {
            list.push_back(json_of(device));
        }
        print("{}\n", list.dump(2, ' ', false, Json::error_handler_t::replace));
        return kPass;
    }
    for (const DeviceDescription &device : all) {
        print_device(device);
    }
    for (const std::string &why : unusable) {
        print("not usable: {}\n", why);
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
