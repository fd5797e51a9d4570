#include "tests/cli/tool_run.h"
#include "tests/golden/changed_case.h"

namespace moa::tools {
namespace {

const std::string kModel = kModels + "/masked_lm.safetensors";

TEST(Fill, RestoresStandardInput) {
    const std::string damaged = "glory, an_ wisdom, and_thanksgiving\n";
    const ToolRun run = run_tool({"fill", "--model", kModel, "--text", "-"}, damaged);
    ASSERT_EQ(run.exit_code, 0) << run.err;
    EXPECT_EQ(run.err, "");
    ASSERT_EQ(run.out.size(), damaged.size());
    EXPECT_EQ(run.out.find('_'), std::string::npos);
    for (size_t i = 0; i < damaged.size(); i++) {
        EXPECT_TRUE(damaged[i] == '_' || run.out[i] == damaged[i]) << i;
    }
    EXPECT_NE(run.out.find("and wisdom"), std::string::npos) << run.out;
}

TEST(Fill, ReadsFilesAndFindsItsModel) {
    const Folder folder;
    write_file(folder / "text", "and the L#rd said unto Mos#s");
    const ToolRun run = run_tool({"fill", "--text", folder / "text", "--mark", "#"});
    ASSERT_EQ(run.exit_code, 0) << run.err;
    EXPECT_EQ(run.out.find('#'), std::string::npos);
    EXPECT_EQ(run_tool({"fill", "--text", "-"}).exit_code, 0);  // nothing to restore
}

TEST(Fill, ReadsModelsOfEveryStorageType) {
    const Result<SafeTensors> file = SafeTensors::open(kModel);
    ASSERT_TRUE(file.ok()) << file.status().message();
    for (const DType dtype : {DType::f16, DType::bf16}) {
        const Folder folder;
        ChangedCase model(*file);
        for (auto &[name, tensor] : model.tensors) {
            tensor = tensor.dtype() == DType::f32 ? tensor.converted(dtype) : tensor;
        }
        ASSERT_TRUE(model.write(folder / "model.safetensors").ok());
        const ToolRun run = run_tool({"fill", "--model", folder / "model.safetensors", "--text", "-"}, "glory, an_ wisdom, and_thanksgiving\n");
        EXPECT_EQ(run.exit_code, 0) << run.err;
        EXPECT_NE(run.out.find("and wisdom"), std::string::npos) << name_of(dtype) << run.out;
    }
}

TEST(Fill, BadFilesAreOneLine) {
    for (const std::vector<std::string> &arguments : {std::vector<std::string>{"fill", "--text", "/nowhere"},
                                                      {"fill", "--text", "-", "--model", "/nowhere"},
                                                      {"fill", "--text", "-", "--model", kModels + "/passage.txt"},
                                                      {"fill", "--text", "-", "--model", kGolden + "/router_default.safetensors"},
                                                      {"fill", "--text", "/"}}) {
        const ToolRun run = run_tool(arguments, "te_t");
        EXPECT_EQ(run.exit_code, 2);
        EXPECT_EQ(run.error_lines(), 1) << run.err;
        EXPECT_EQ(run.out, "");
    }
}

// As installed: the tool in bin, its models in share beside it, wherever that is.
TEST(Fill, AnInstalledToolFindsItsModels) {
    const Folder folder;
    std::filesystem::create_directories(folder / "bin");
    std::filesystem::copy_file(MOA_TOOL, folder / "bin/moa");
    const std::string model = (std::filesystem::path(folder / "bin") / MOA_INSTALLED_MODELS / "masked_lm.safetensors").lexically_normal().string();
    std::filesystem::create_directories(std::filesystem::path(model).parent_path());
    const std::string command = "echo te_t | " + quoted(folder / "bin/moa") + " fill --text - >" + quoted(folder / "out") + " 2>" + quoted(folder / "err");
    EXPECT_EQ(WEXITSTATUS(std::system(command.c_str())), 2);
    EXPECT_NE(contents(folder / "err").find(model), std::string::npos) << contents(folder / "err");
    std::filesystem::copy_file(kModel, model);
    EXPECT_EQ(WEXITSTATUS(std::system(command.c_str())), 0) << contents(folder / "err");
    EXPECT_EQ(contents(folder / "out").size(), 5U);
}

TEST(Demo, ShowsTextsRoutesRowsAndVerdict) {
    const Folder folder;
    const std::string svg = folder / "routes.svg";
    const ToolRun run = run_tool({"demo", "--length", "512", "--svg", svg});
    ASSERT_EQ(run.exit_code, 0) << run.out << run.err;
    for (const char *part : {"Damaged:", "Restored:", "bytes restored", "layer 2 expert 3", "Rows that ran", "first of", "PASS"}) {
        EXPECT_NE(run.out.find(part), std::string::npos) << part;
    }
    EXPECT_NE(run.out.find("as a picture: " + svg), std::string::npos) << run.out;
    const std::string picture = contents(svg);
    EXPECT_TRUE(picture.starts_with("<svg") && picture.ends_with("</svg>\n"));
}

TEST(Demo, APictureThatCannotBeWrittenIsAnError) {
    const ToolRun run = run_tool({"demo", "--length", "200", "--svg", "/nowhere/routes.svg"});
    EXPECT_EQ(run.exit_code, 2);
    EXPECT_EQ(run.error_lines(), 1) << run.err;
}

}  // namespace
}  // namespace moa::tools
