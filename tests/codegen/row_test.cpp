#include "generators/codegen/row.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <unistd.h>

namespace moa::codegen {
namespace {

// A row file in a folder of its own that goes with the test.
class RowFile : public testing::Test {
protected:
    void SetUp() override {
        const auto *info = testing::UnitTest::GetInstance()->current_test_info();
        folder_ = std::filesystem::temp_directory_path() / ("moa_row_test_" + std::string(info->name()) + std::to_string(getpid()));
        std::filesystem::create_directories(folder_);
        write("combine_cpu.cpp", "");
    }
    void TearDown() override {
        std::filesystem::remove_all(folder_);
    }

    std::string write(const std::string &name, const std::string &text) const {
        std::string path = (folder_ / name).string();
        std::ofstream(path) << text;
        return path;
    }
    std::vector<Row> read(const std::string &text, const RowFilter &filter = {{"x86", "x86_avx2"}, {}, {}}) const {
        return read_rows({write("combine.json", text)}, targets_, folder_.string(), filter);
    }
    std::string refusal(const std::string &text, const RowFilter &filter = {{"x86"}, {}, {}}) const {
        try {
            read(text, filter);
            return "accepted";
        } catch (const std::runtime_error &e) {
            return e.what();
        }
    }

    std::filesystem::path folder_;
    std::vector<RowTarget> targets_{{"x86", "x86-64-linux", {}, ""},
                                    {"x86_avx2", "x86-64-linux-avx2", {"avx2"}, ""},
                                    {"arm64", "arm-64-linux", {}, "x86"},
                                    {"cuda_80", "x86-64-linux-cuda-cuda_capability_80", {}, "", 80}};
};

std::string file_with(const std::string &rows) {
    return R"({"op": "combine", "rows": [)" + rows + "]}";
}

constexpr const char *kPlain = R"({"schedule": "cpu", "target": "x86", "dtype": "f32"})";

TEST_F(RowFile, SymbolSpellsEveryFactInOrder) {
    const auto rows = read(file_with(R"({"schedule": "cpu", "target": "x86_avx2", "dtype": "bf16",
        "static": {"head_dim": 64}, "knobs": {"nr": 2, "mr": 6}, "accept": {"head_dim": [1, 256]}})"));
    ASSERT_EQ(rows.size(), 1U);
    EXPECT_EQ(rows[0].symbol(), "combine__cpu_x86_avx2_bf16_head_dim64_mr6_nr2");
    EXPECT_EQ(rows[0].function(), "moa_combine__cpu_x86_avx2_bf16_head_dim64_mr6_nr2");
    EXPECT_EQ(rows[0].accept.at("head_dim"), std::make_pair(1, 256));
    EXPECT_EQ(rows[0].compiled_for.features, std::vector<std::string>{"avx2"});
    EXPECT_EQ(rows[0].schedule_source, (folder_ / "combine_cpu.cpp").string());
}

TEST_F(RowFile, OneRowSurvivesTheWayThroughItsOwnFile) {
    const Row row = read(file_with(R"({"schedule": "cpu", "target": "x86", "dtype": "any", "knobs": {"block": 8}})"))[0];
    const Row copy = read_row(write("row.json", to_json(row)));
    EXPECT_EQ(copy.symbol(), row.symbol());
    EXPECT_EQ(copy.compiled_for.halide, "x86-64-linux");
    const Row kernel = read(file_with(R"({"schedule": "cpu", "target": "cuda_80", "dtype": "any", "shared_bytes": 65536, "spill_bytes": 8})"), {{"cuda_80"}, {}, {}})[0];
    const Row copied = read_row(write("row.json", to_json(kernel)));
    EXPECT_EQ(copied.shared_bytes, 65536);
    EXPECT_EQ(copied.spill_bytes, 8);
}

TEST_F(RowFile, FiltersKeepWhatWasAskedFor) {
    const std::string text = file_with(R"({"schedule": "cpu", "target": "x86", "dtype": "f32", "static": {"head_dim": 32}},
        {"schedule": "cpu", "target": "x86", "dtype": "f32"}, {"schedule": "cpu", "target": "x86", "dtype": "bf16"},
        {"schedule": "cpu", "target": "x86", "dtype": "any"}, {"schedule": "cpu", "target": "x86_avx2", "dtype": "f32"})");
    EXPECT_EQ(read(text).size(), 5U);
    EXPECT_EQ(read(text, {{"x86"}, {}, {}}).size(), 4U);
    EXPECT_EQ(read(text, {{"x86"}, {"f32"}, {}}).size(), 3U);
    EXPECT_EQ(read(text, {{"x86"}, {"f32"}, {64}}).size(), 2U);
}

TEST_F(RowFile, PortableRowsAreCompiledForOtherMachines) {
    const auto rows = read(file_with(std::string(kPlain) + R"(, {"schedule": "cpu", "target": "x86_avx2", "dtype": "f32"})"), {{"arm64"}, {}, {}});
    ASSERT_EQ(rows.size(), 1U);
    EXPECT_EQ(rows[0].symbol(), "combine__cpu_arm64_f32");
    EXPECT_EQ(rows[0].compiled_for.halide, "arm-64-linux");
}

TEST_F(RowFile, CudaRowsSayWhatTheyNeed) {
    const std::string text = file_with(R"({"schedule": "cpu", "target": "cuda_80", "dtype": "f16", "shared_bytes": 65536},
        {"schedule": "cpu", "target": "cuda_80", "dtype": "tf32"}, {"schedule": "cpu", "target": "cuda_80", "dtype": "f32"})");
    const auto rows = read(text, {{"cuda_80"}, {}, {}});
    ASSERT_EQ(rows.size(), 3U);
    EXPECT_EQ(rows[0].shared_bytes, 65536);
    EXPECT_EQ(rows[0].compiled_for.capability, 80);
    EXPECT_EQ(rows[1].symbol(), "combine__cpu_cuda_80_tf32");
    EXPECT_EQ(read(text, {{"cuda_80"}, {"f32"}, {}}).size(), 2U);  // tf32 is a way to compute in f32
    EXPECT_EQ(read(text, {{"x86"}, {}, {}}).size(), 0U);
}

TEST_F(RowFile, MistakesAreNamed) {
    const auto expect = [this](const std::string &text, const std::string &part) {
        EXPECT_NE(refusal(text).find(part), std::string::npos) << text << "\nwas: " << refusal(text);
    };
    expect("{", "parse error");
    expect("[]", "must be an object");
    expect(R"({"rows": []})", "lacks \"op\"");
    expect(R"({"op": "combine"})", "\"rows\" must be a list");
    expect(R"({"op": "Combine", "rows": []})", "not \"Combine\"");
    expect(file_with("7"), "row 1: must be an object, not 7");
    expect(file_with(R"({"schedule": "cpu", "target": "x86"})"), "row 1: lacks \"dtype\"");
    expect(file_with(R"({"schedule": "cpu", "target": "x86", "dtype": "f64"})"), "not \"f64\"");
    expect(file_with(R"({"schedule": "cpu", "target": "mips", "dtype": "f32"})"), "unknown target \"mips\"");
    expect(file_with(R"({"schedule": "cpu", "target": "x86", "dtype": "f32", "knob": {}})"), "unknown key \"knob\"");
    expect(file_with(R"({"schedule": "cpu", "target": "x86", "dtype": "f32", "knobs": {"mr": 1.5}})"), "\"mr\" must be an integer");
    expect(file_with(R"({"schedule": "cpu", "target": "x86", "dtype": "f32", "knobs": {"mr": -1}})"), "\"mr\" must be an integer");
    expect(file_with(R"({"schedule": "cpu", "target": "x86", "dtype": "f32", "knobs": 3})"), "\"knobs\" must be an object");
    expect(file_with(R"({"schedule": "cpu", "target": "x86", "dtype": "f32", "accept": {"n": [2, 1]}})"), "range of \"n\" is empty");
    expect(file_with(R"({"schedule": "cpu", "target": "cuda_80", "dtype": "f32", "shared_bytes": "8K"})"), "\"shared_bytes\" must be an integer");
    expect(file_with(R"({"schedule": "cpu", "target": "cuda_80", "dtype": "f32", "spill_bytes": -4})"), "\"spill_bytes\" must be an integer");
    expect(file_with(R"({"schedule": "slow", "target": "x86", "dtype": "f32"})"), "there is no schedule source");
    expect(file_with(std::string(kPlain) + ", " + kPlain), "row combine__cpu_x86_f32 is there twice");
    EXPECT_NE(refusal(file_with(kPlain), {{"x87"}, {}, {}}).find("unknown target \"x87\""), std::string::npos);
}

TEST(TargetTable, IsReadable) {
    const auto targets = read_targets(MOA_TARGETS);
    ASSERT_FALSE(targets.empty());
    EXPECT_EQ(targets[0].name, "x86");
    EXPECT_TRUE(targets[0].features.empty());
    EXPECT_EQ(targets[0].capability, 0);
    EXPECT_TRUE(std::any_of(targets.begin(), targets.end(), [](const RowTarget &target) { return target.name == "cuda_80" && target.capability == 80; }));
}

}  // namespace
}  // namespace moa::codegen
