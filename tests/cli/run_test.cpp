#include "moa/cuda.h"
#include "tests/cli/tool_run.h"
#include "tests/golden/changed_case.h"
#include "tools/cases/recorded_case.h"

#include <cmath>

namespace moa::tools {
namespace {

TEST(Run, WritesWhatTheLayerGives) {
    const Folder folder;
    const std::string file = kGolden + "/moa_self_e1_h8.safetensors", output = folder / "out.safetensors";
    const ToolRun run = run_tool({"run", file, "-o", output});
    ASSERT_EQ(run.exit_code, 0) << run.err;
    const Result<RecordedCase> recorded = RecordedCase::open(file), written = RecordedCase::open(output);
    ASSERT_TRUE(recorded.ok() && written.ok()) << written.status().message();
    const HostTensor want = recorded->tensor("out.out"), got = written->tensor("out.out");
    ASSERT_EQ(want.shape(), got.shape());
    for (size_t i = 0; i < want.size(); i++) {
        ASSERT_LE(std::fabs(got[i] - want[i]), 1e-4 * std::max(1.0, std::fabs(want[i]))) << i;
    }
    EXPECT_TRUE(written->has("route.query_router.idx") && written->has("route.key_value_router.s"));
    EXPECT_EQ(folder.files(), 1U);
}

TEST(Run, NeedsNoRecordedOutputs) {
    const Folder folder;
    const Result<SafeTensors> file = SafeTensors::open(kGolden + "/router_soft_mask_r2_fixed.safetensors");
    ASSERT_TRUE(file.ok());
    ChangedCase changed(*file);
    std::erase_if(changed.tensors, [](const auto &entry) { return entry.first.starts_with("out.") || entry.first.starts_with("route."); });
    ASSERT_TRUE(changed.write(folder / "case.safetensors").ok());
    const ToolRun run = run_tool({"run", folder / "case.safetensors", "-o", folder / "out.safetensors", "--dtype", "bf16"});
    EXPECT_EQ(run.exit_code, 0) << run.err;
    const Result<SafeTensors> written = SafeTensors::open(folder / "out.safetensors");
    ASSERT_TRUE(written.ok()) << written.status().message();
    EXPECT_EQ(written->tensors().count("out.tokens"), 1U);
    EXPECT_EQ(written->tensors().find("out.tokens")->second.dtype, DType::bf16);
}

TEST(Run, FailuresLeaveNothing) {
    const Folder folder;
    const std::string good = kGolden + "/moa_self_e1_h8.safetensors", cut = folder / "cut.safetensors";
    write_file(cut, contents(good).substr(0, 5000));
    const ToolRun truncated = run_tool({"run", cut, "-o", folder / "out.safetensors"});
    EXPECT_EQ(truncated.exit_code, 2);
    EXPECT_EQ(truncated.error_lines(), 1);
    std::filesystem::create_directory(folder / "taken");
    EXPECT_EQ(run_tool({"run", good, "-o", folder / "taken"}).exit_code, 2);
    EXPECT_EQ(run_tool({"run", good, "-o", folder / "no_folder/out.safetensors"}).exit_code, 2);
    EXPECT_EQ(run_tool({"run", good, "-o", "/dev/full"}).exit_code, 2);
    EXPECT_EQ(run_tool({"run", good, "--device", "cuda:77", "-o", folder / "out.safetensors"}).exit_code, cuda::device_count() == 0 ? 3 : 2);
    EXPECT_EQ(folder.files(), 2U);
}

// An output that cannot be written leaves the old one as it was.
TEST(Run, KeepsTheOldOutputOnFailure) {
    const Folder folder;
    const std::string output = folder / "out.safetensors";
    write_file(output, "old");
    EXPECT_EQ(run_tool({"run", "/nowhere.safetensors", "-o", output}).exit_code, 2);
    EXPECT_EQ(contents(output), "old");
    EXPECT_EQ(run_tool({"run", kGolden + "/router_default.safetensors", "-o", output}).exit_code, 0);
    EXPECT_TRUE(SafeTensors::open(output).ok());
}

}  // namespace
}  // namespace moa::tools
