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

// The routes of a file stand for the layer's own, and change what comes out.
TEST(Run, ImposesRecordedRoutes) {
    const Folder folder;
    const Result<SafeTensors> file = SafeTensors::open(kGolden + "/moa_self_e1_h8.safetensors");
    ASSERT_TRUE(file.ok());
    ChangedCase changed(*file);
    HostTensor &routes = changed.tensors["route.query_router.idx"];
    for (size_t i = 0; i < routes.size(); i++) {
        routes.set(i, static_cast<double>(i % static_cast<size_t>(routes.shape().back())));  // the first positions
    }
    ASSERT_TRUE(changed.write(folder / "case.safetensors").ok());
    ASSERT_EQ(run_tool({"run", folder / "case.safetensors", "-o", folder / "own.safetensors"}).exit_code, 0);
    const ToolRun run = run_tool({"run", folder / "case.safetensors", "-o", folder / "imposed.safetensors", "--imposed-routes"});
    ASSERT_EQ(run.exit_code, 0) << run.err;
    const Result<RecordedCase> own = RecordedCase::open(folder / "own.safetensors"), imposed = RecordedCase::open(folder / "imposed.safetensors");
    ASSERT_TRUE(own.ok() && imposed.ok());
    const HostTensor got = imposed->tensor("route.query_router.idx"), other = own->tensor("route.query_router.idx");
    bool differs = false;
    for (size_t i = 0; i < got.size(); i++) {
        EXPECT_EQ(got[i], routes[i]);
        differs = differs || other[i] != got[i];
    }
    EXPECT_TRUE(differs);

    const ToolRun none = run_tool({"run", kGolden + "/lmha_causal_exact.safetensors", "-o", folder / "none.safetensors", "--imposed-routes"});
    EXPECT_EQ(none.exit_code, 2);
    EXPECT_NE(none.err.find("routes nothing"), std::string::npos) << none.err;
    std::erase_if(changed.tensors, [](const auto &entry) { return entry.first == "route.key_value_router.idx"; });
    ASSERT_TRUE(changed.write(folder / "case.safetensors").ok());
    EXPECT_EQ(run_tool({"run", folder / "case.safetensors", "-o", folder / "none.safetensors", "--imposed-routes"}).exit_code, 2);
}

TEST(Run, RunsATorchLinear) {
    const Folder folder;
    HostTensor weight(DType::f32, {3, 2}), bias(DType::f32, {3}), x(DType::f32, {1, 5, 2});
    for (HostTensor *tensor : {&weight, &bias, &x}) {
        for (size_t i = 0; i < tensor->size(); i++) {
            tensor->set(i, static_cast<double>(i) / 4);
        }
    }
    const std::string config = R"({"config": {"name": "linear", "module": "Linear", "init": {"in_features": 2, "out_features": 3}}})";
    ASSERT_TRUE(write_safetensors(folder / "case.safetensors", {{"w.weight", weight.view()}, {"w.bias", bias.view()}, {"in.x", x.view()}}, {{"case", config}}).ok());
    const ToolRun run = run_tool({"run", folder / "case.safetensors", "-o", folder / "out.safetensors"});
    ASSERT_EQ(run.exit_code, 0) << run.err;
    const Result<RecordedCase> written = RecordedCase::open(folder / "out.safetensors");
    ASSERT_TRUE(written.ok());
    const HostTensor got = written->tensor("out.out");
    ASSERT_EQ(got.shape(), (std::vector<int64_t>{1, 5, 3}));
    for (size_t i = 0; i < got.size(); i++) {
        const size_t n = i / 3, o = i % 3;
        EXPECT_FLOAT_EQ(static_cast<float>(got[i]), static_cast<float>(x[2 * n] * weight[2 * o] + x[2 * n + 1] * weight[2 * o + 1] + bias[o]));
    }
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

// Weights and outputs in f16, whatever device computes.
TEST(Run, ReadsWeightsOfF16) {
    const Folder folder;
    const Result<SafeTensors> file = SafeTensors::open(kGolden + "/moa_self_e1_h8.safetensors");
    ASSERT_TRUE(file.ok());
    ChangedCase rounded(*file), narrow(*file);
    for (auto &[name, tensor] : narrow.tensors) {
        if (name.starts_with("w.") && tensor.dtype() == DType::f32) {
            tensor = tensor.converted(DType::f16);
            rounded.tensors[name] = tensor.converted(DType::f32);
        }
    }
    ASSERT_TRUE(rounded.write(folder / "rounded.safetensors").ok() && narrow.write(folder / "narrow.safetensors").ok());
    for (const std::string name : {"rounded", "narrow"}) {
        const ToolRun run = run_tool({"run", folder / (name + ".safetensors"), "-o", folder / (name + ".out")});
        ASSERT_EQ(run.exit_code, 0) << run.err;
    }
    EXPECT_EQ(contents(folder / "rounded.out"), contents(folder / "narrow.out"));
    if (cuda::device_count() == 0) {
        GTEST_SKIP() << "layers run in f16 on GPUs only";
    }
    const ToolRun f16 = run_tool({"run", folder / "narrow.safetensors", "--device", "cuda:0", "--dtype", "f16", "-o", folder / "f16.out"});
    ASSERT_EQ(f16.exit_code, 0) << f16.err;
    const Result<SafeTensors> written = SafeTensors::open(folder / "f16.out");
    ASSERT_TRUE(written.ok()) << written.status().message();
    EXPECT_EQ(written->tensors().at("out.out").dtype, DType::f16);
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
