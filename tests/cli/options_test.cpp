#include "tests/cli/tool_run.h"

#include "moa/cuda.h"
#include "moa/rows.h"
#include "tools/cases/row_notes.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

// Options that cannot act are errors, in every command that takes them.
namespace moa::tools {
namespace {

const std::string kCase = kGolden + "/router_default.safetensors", kLayer = kGolden + "/moa_self_e1_h8.safetensors";

using Arguments = std::vector<std::string>;

Arguments joined(Arguments a, const Arguments &b) {
    a.insert(a.end(), b.begin(), b.end());
    return a;
}

// Every command that takes run options, with what it needs besides.
const std::vector<Arguments> kRunning{{"verify", kCase},
                                      {"run", kCase, "-o", "out.safetensors"},
                                      {"fill", "--text", "in"},
                                      {"demo", "--length", "64"},
                                      {"bench", "--op", "project", "--shape", "rows4_in8"},
                                      {"bench", "--suite", "reference", "--case", "moa_cross_readme"}};

void expect_error(const Arguments &arguments, int exit_code, const std::string &part) {
    const ToolRun run = run_tool(arguments, "te_t");
    std::string line;
    for (const std::string &argument : arguments) {
        line += argument + " ";
    }
    EXPECT_EQ(run.exit_code, exit_code) << line << run.out << run.err;
    EXPECT_EQ(run.error_lines(), 1) << line << run.err;
    EXPECT_NE(run.err.find(part), std::string::npos) << line << run.err;
}

const Row *row_where(bool accepted(const Row &)) {
    for (const Row &row : built_rows()) {
        if (accepted(row)) {
            return &row;
        }
    }
    return nullptr;
}

TEST(Options, PrecisionIsForProductsOfF32OnGpus) {
    for (const Arguments &command : kRunning) {
        expect_error(joined(command, {"--precision", "tf32"}), 2, "--precision is tf32, which GPUs have");
        expect_error(joined(command, {"--precision", "tf32", "--dtype", "bf16", "--device", "cuda:0"}), 2, "--precision is tf32, a way to multiply f32");
        expect_error(joined(command, {"--precision", "fp8"}), 2, "fp8");
    }
}

TEST(Options, ThreadsAreTheCpus) {
    for (const Arguments &command : kRunning) {
        expect_error(joined(command, {"--threads", "2", "--device", "cuda:0"}), 2, "--threads is 2");
    }
}

TEST(Options, AreGivenOnce) {
    for (const Arguments &command : kRunning) {
        expect_error(joined(command, {"--dtype", "f32", "--dtype", "bf16"}), 2, "--dtype");
    }
}

// What the device lacks is not replaced.
TEST(Options, F16NeedsAGpu) {
    for (const Arguments &command : {Arguments{"fill", "--text", "in"}, Arguments{"run", kCase, "-o", "out.safetensors"}}) {
        expect_error(joined(command, {"--dtype", "f16"}), 3, "f16");
    }
    EXPECT_EQ(run_tool({"demo", "--length", "64", "--dtype", "f16"}).exit_code, 3);
    EXPECT_EQ(run_tool({"verify", kCase, "--dtype", "f16"}).exit_code, 3);
    EXPECT_EQ(run_tool({"bench", "--op", "project", "--shape", "rows4_in8", "--dtype", "f16"}).exit_code, 3);
}

TEST(Options, DevicesThatAreNotThereAreUnsupported) {
    if (cuda::device_count() > 0) {
        GTEST_SKIP() << "this machine has a GPU";
    }
    for (const Arguments &command : kRunning) {
        EXPECT_EQ(run_tool(joined(command, {"--device", "cuda:0"}), "te_t").exit_code, 3) << command[0];
    }
    EXPECT_EQ(run_tool({"rows", "--device", "cuda:0"}).exit_code, 3);
}

// A case passes with a row only if the row ran.
TEST(Options, ForcedRowsRun) {
    const Row *combine = row_where([](const Row &row) { return row.op == "combine" && row.device == DeviceType::cpu && row.schedule == "reference"; });
    ASSERT_NE(combine, nullptr);
    const std::string name(combine->name);
    const ToolRun router = run_tool({"verify", "--row", name, kCase});
    EXPECT_EQ(router.exit_code, 3) << router.out << router.err;
    EXPECT_NE(router.out.find("UNSUPPORTED"), std::string::npos) << router.out;
    EXPECT_NE(router.out.find("no step of this plan is of its operation"), std::string::npos) << router.out;
    const ToolRun layer = run_tool({"verify", "--row", name, kLayer});
    EXPECT_EQ(layer.exit_code, 0) << layer.out << layer.err;
    EXPECT_EQ(layer.err, "") << "the row was forced: no warning";
    const Folder folder;
    expect_error({"run", kCase, "--row", name, "-o", folder / "out.safetensors"}, 3, "no step of this plan is of its operation");
    EXPECT_EQ(folder.files(), 0U);
    const ToolRun suite = run_tool({"bench", "--suite", "reference", "--case", "router_8x4096_k512", "--row", name, "--min-runs", "1", "--min-time", "0"});
    EXPECT_EQ(suite.exit_code, 3) << suite.out;
    EXPECT_NE(suite.out.find("no step of this plan is of its operation"), std::string::npos) << suite.out;
}

TEST(Options, RowsOfOneOperationExcludeEachOther) {
    const Row *first = row_where([](const Row &row) { return row.op == "project" && row.device == DeviceType::cpu; });
    const Row *other = row_where([](const Row &row) { return row.op == "project" && row.schedule == "reference"; });
    ASSERT_TRUE(first != nullptr && other != nullptr && first != other);
    for (const Arguments &command : {Arguments{"verify", kCase}, Arguments{"run", kCase, "-o", "out.safetensors"}, Arguments{"bench", "--suite", "reference"}}) {
        expect_error(joined(command, {"--row", std::string(first->name), "--row", std::string(other->name)}), 2, "both of operation project");
    }
}

TEST(Options, OfBenchContradictNothing) {
    const Row *row = row_where([](const Row &r) { return r.op == "project" && r.device == DeviceType::cpu && r.dtype == "f32"; });
    ASSERT_NE(row, nullptr);
    const std::string name(row->name);
    const std::vector<std::pair<Arguments, std::string>> mistakes{
        {{}, "--op, --row or --suite"},
        {{"--all-rows"}, "--op, --row or --suite"},
        {{"--shape", "rows4"}, "--op, --row or --suite"},
        {{"--op", "nothing"}, "--op is 'nothing'"},
        {{"--op", "project", "--shape", "rows4_nothing3"}, "nothing3"},
        {{"--op", "project", "--steps"}, "--steps"},
        {{"--op", "project", "--json"}, "--json"},
        {{"--op", "project", "--case", "moa_cross_readme"}, "--case"},
        {{"--op", "attention", "--row", name}, "is of operation project"},
        {{"--row", name, "--dtype", "bf16"}, "is of dtype f32"},
        {{"--row", name, "--all-rows"}, "exclude each other"},
        {{"--op", "rotary_table", "--dtype", "bf16"}, "no cases of dtype bf16"},
        {{"--op", "project", "--min-runs", "0"}, "--min-runs"},
        {{"--op", "project", "--min-time", "-1"}, "--min-time"},
        {{"--op", "project", "--seed", "-1"}, "--seed"},
        {{"--suite", "nothing"}, "--suite is 'nothing'"},
        {{"--suite", "reference", "--case", "nothing"}, "--case is 'nothing'"},
        {{"--suite", "reference", "--op", "project"}, "--suite takes no"},
        {{"--suite", "reference", "--shape", "rows4"}, "--suite takes no"},
        {{"--suite", "reference", "--all-rows"}, "--suite takes no"},
    };
    for (const auto &[arguments, part] : mistakes) {
        expect_error(joined({"bench"}, arguments), 2, part);
    }
    if (const Row *gpu = row_where([](const Row &r) { return r.op == "project" && r.device == DeviceType::cuda && r.dtype == "f32"; })) {
        expect_error({"bench", "--row", std::string(gpu->name)}, 2, "is for GPUs, and --device is cpu");
    }
}

TEST(Options, OfRowsThatLeaveNothing) {
    const auto rows = built_rows();
    for (const Row &a : rows) {
        for (const Row &b : rows) {
            if (std::none_of(rows.begin(), rows.end(), [&](const Row &row) { return row.op == a.op && row.target == b.target; })) {
                expect_error({"rows", "--op", std::string(a.op), "--target", std::string(b.target)}, 2, "no row of it was built for --target " + std::string(b.target));
                return;
            }
        }
    }
    GTEST_SKIP() << "every operation has rows for every target";
}

TEST(Options, OfDemoWriteNothingUnasked) {
    const Folder folder;
    const std::string in_folder = "cd " + quoted(folder / "") + " && " + quoted(MOA_TOOL) + " demo --length 300 ", quiet = " >/dev/null 2>&1";
    EXPECT_EQ(WEXITSTATUS(std::system((in_folder + quiet).c_str())), 0);
    EXPECT_EQ(folder.files(), 0U);
    const std::string svg = folder / "routes.svg";
    write_file(svg, "mine");
    expect_error({"demo", "--length", "300", "--svg", svg}, 2, "--force");
    EXPECT_EQ(contents(svg), "mine");
    const ToolRun forced = run_tool({"demo", "--length", "300", "--svg", svg, "--force"});
    EXPECT_EQ(forced.exit_code, 0) << forced.err;
    EXPECT_TRUE(contents(svg).starts_with("<svg"));
    EXPECT_NE(forced.out.find("as a picture: " + svg), std::string::npos) << forced.out;
    expect_error({"demo", "--length", "300", "--force"}, 2, "--svg");
    expect_error({"demo", "--length", "64", "--svg", folder / "none.svg"}, 2, "nothing is routed");
    EXPECT_EQ(folder.files(), 1U);
}

// A step that a plan leaves to a reference row is told, unless that was asked for.
TEST(ReferenceRows, AreWarnedOf) {
    const Row *reference = row_where([](const Row &row) { return row.op == "attention" && is_reference(row); });
    const Row *fast = row_where([](const Row &row) { return row.op == "attention" && !is_reference(row); });
    ASSERT_TRUE(reference != nullptr && fast != nullptr);
    const std::vector<Plan::Step> steps{{.name = "project queries", .row = std::string(fast->name)},
                                        {.name = "attention", .row = std::string(reference->name), .passed_over = {"other: takes head_dim 1 to 256, not 300"}},
                                        {.name = "attention", .row = std::string(reference->name), .passed_over = {"other: takes head_dim 1 to 256, not 300"}},
                                        {.name = "copies", .reason = "host"}};
    const std::vector<std::string> warnings = reference_warnings(steps, {});
    ASSERT_EQ(warnings.size(), 1U);
    for (const std::string &part : {std::string("step 'attention'"), std::string(reference->name), std::string("head_dim 1 to 256, not 300")}) {
        EXPECT_NE(warnings[0].find(part), std::string::npos) << warnings[0];
    }
    const std::vector<std::string> forced{std::string(reference->name)};
    EXPECT_TRUE(reference_warnings(steps, forced).empty());
}

TEST(Bench, SaysWhatItChecked) {
    const ToolRun small = run_tool({"bench", "--op", "attention", "--shape", "q40_k50_d32", "--min-runs", "1", "--min-time", "0"});
    EXPECT_EQ(small.exit_code, 0) << small.out << small.err;
    EXPECT_EQ(small.out.find("checked"), std::string::npos) << small.out;
    EXPECT_EQ(small.err, "");
    const ToolRun large = run_tool({"bench", "--op", "attention", "--shape", "q8192_k4096_d32_h2", "--min-runs", "1", "--min-time", "0"});
    EXPECT_EQ(large.exit_code, 0) << large.out << large.err;
    EXPECT_NE(large.out.find("(checked: "), std::string::npos) << large.out;
    EXPECT_NE(large.out.find(" of 524288 elements)"), std::string::npos) << large.out;
}

}  // namespace
}  // namespace moa::tools
