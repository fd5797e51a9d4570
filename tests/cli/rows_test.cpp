#include "moa/cuda.h"
#include "tests/cli/tool_run.h"

#include "moa/rows.h"

#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

namespace moa::tools {
namespace {

using Json = nlohmann::json;

TEST(Rows, JsonListsWhatWasBuilt) {
    const ToolRun run = run_tool({"rows", "--json"});
    ASSERT_EQ(run.exit_code, 0) << run.err;
    const Json rows = Json::parse(run.out, nullptr, false);
    ASSERT_TRUE(rows.is_array());
    ASSERT_EQ(rows.size(), built_rows().size());
    const CpuFeatures features = describe_host().features;
    for (size_t i = 0; i < rows.size(); i++) {
        const Row &row = built_rows()[i];
        EXPECT_EQ(rows[i]["name"], row.name);
        EXPECT_EQ(rows[i]["op"], row.op);
        EXPECT_EQ(rows[i]["target"], row.target);
        EXPECT_EQ(rows[i]["dtype"], row.dtype);
        EXPECT_EQ(rows[i]["runs_here"], row.device == DeviceType::cuda ? cuda::device_count() > 0 : (row.required & ~features) == 0);
        EXPECT_EQ(rows[i]["missing_features"].empty(), rows[i]["runs_here"]);
        EXPECT_EQ(rows[i]["static"].size(), row.statics.size());
    }
}

TEST(Rows, FiltersLeaveOthersOut) {
    const Row &some = built_rows().back();
    const ToolRun run = run_tool({"rows", "--json", "--op", std::string(some.op), "--target", std::string(some.target)});
    ASSERT_EQ(run.exit_code, 0) << run.err;
    const Json rows = Json::parse(run.out, nullptr, false);
    size_t wanted = 0;
    for (const Row &row : built_rows()) {
        wanted += row.op == some.op && row.target == some.target ? 1 : 0;
    }
    EXPECT_EQ(rows.size(), wanted);
    for (const Json &row : rows) {
        EXPECT_EQ(row["op"], some.op);
        EXPECT_EQ(row["target"], some.target);
    }
}

TEST(Rows, TextHasALineARow) {
    const ToolRun run = run_tool({"rows"});
    ASSERT_EQ(run.exit_code, 0) << run.err;
    EXPECT_EQ(static_cast<size_t>(std::count(run.out.begin(), run.out.end(), '\n')), built_rows().size());
    for (const Row &row : built_rows()) {
        EXPECT_NE(run.out.find(std::string(row.name) + "\n"), std::string::npos) << row.name;
    }
    // Five columns, two spaces or more apart, each beginning at the same place in every line.
    std::stringstream lines(run.out);
    std::set<size_t> places;
    for (std::string line; std::getline(lines, line);) {
        places.insert(line.rfind("  ") + 2);
        EXPECT_EQ(line.find(' ', line.rfind("  ") + 2), std::string::npos) << line;
    }
    EXPECT_EQ(places.size(), 1U);
}

TEST(Devices, JsonDescribesTheHost) {
    const ToolRun run = run_tool({"devices", "--json"});
    ASSERT_EQ(run.exit_code, 0) << run.err;
    const Json devices = Json::parse(run.out, nullptr, false);
    ASSERT_TRUE(devices.is_array() && devices.size() == 1 + static_cast<size_t>(cuda::device_count()));
    EXPECT_EQ(devices[0]["device"], "cpu");
    EXPECT_EQ(devices[0]["cores"], describe_host().cores);
    EXPECT_FALSE(devices[0]["targets"].empty());
    EXPECT_NE(run_tool({"devices"}).out.find("runs here"), std::string::npos);
}

}  // namespace
}  // namespace moa::tools
