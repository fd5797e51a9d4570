#include "moa/cuda.h"
#include "tests/cli/tool_run.h"
#include "tests/golden/changed_case.h"

#include "moa/rows.h"

#include <limits>
#include <nlohmann/json.hpp>

namespace moa::tools {
namespace {

using Json = nlohmann::json;

class VerifyTest : public testing::Test {
protected:
    // A recorded case, changed by the test.
    static ChangedCase changed(const std::string &name = "moa_self_e1_h8") {
        const Result<SafeTensors> file = SafeTensors::open(kGolden + "/" + name + ".safetensors");
        EXPECT_TRUE(file.ok()) << file.status().message();
        return ChangedCase(*file);
    }
    ToolRun verify(ChangedCase &recorded, std::vector<std::string> options = {}) {
        const std::string path = folder / "case.safetensors";
        const Status status = recorded.write(path);
        EXPECT_TRUE(status) << status.message();
        options.insert(options.begin(), {"verify", path});
        return run_tool(options);
    }
    // One of a case's outputs, somewhere in its middle.
    static void spoil(ChangedCase &recorded, const std::string &tensor, double value) {
        HostTensor &spoilt = recorded.tensors[tensor];
        spoilt.set(spoilt.size() / 2, value);
    }
    static void rename_module(ChangedCase &recorded, const std::string &module) {
        Json json = Json::parse(recorded.metadata["case"]);
        json["config"]["module"] = module;
        recorded.metadata["case"] = json.dump();
    }
    static void add_option(ChangedCase &recorded, const char *where, const char *name, const Json &value) {
        Json json = Json::parse(recorded.metadata["case"]);
        json["config"][where][name] = value;
        recorded.metadata["case"] = json.dump();
    }

    const std::string golden = kGolden + "/moa_self_e1_h8.safetensors";
    const Folder folder;
};

TEST_F(VerifyTest, PassesInBothDtypes) {
    for (const char *dtype : {"f32", "bf16"}) {
        const ToolRun run = run_tool({"verify", "--dtype", dtype, golden, kGolden + "/lmha_causal_exact.safetensors"});
        EXPECT_EQ(run.exit_code, 0) << run.out << run.err;
        EXPECT_NE(run.out.find("PASS " + golden), std::string::npos) << run.out;
        EXPECT_NE(run.out.find("2 passed, 0 failed"), std::string::npos) << run.out;
    }
}

TEST_F(VerifyTest, JsonHoldsErrorsAndTolerances) {
    const ToolRun run = run_tool({"verify", "--json", golden});
    ASSERT_EQ(run.exit_code, 0) << run.err;
    const Json json = Json::parse(run.out, nullptr, false);
    ASSERT_TRUE(json.is_object());
    EXPECT_EQ(json["passed"], 1);
    const Json &first = json["cases"][0];
    EXPECT_EQ(first["verdict"], "PASS");
    EXPECT_EQ(first["case"], "moa_self_e1_h8");
    EXPECT_FALSE(first["rows"].empty());
    ASSERT_EQ(first["outputs"].size(), 5U);  // out, and similarities and indices of two routers
    for (const Json &output : first["outputs"]) {
        EXPECT_TRUE(output["pass"].get<bool>());
        EXPECT_LE(output["error"].get<double>(), output["tolerance"].get<double>());
    }
}

TEST_F(VerifyTest, WrongOutputsFail) {
    ChangedCase recorded = changed();
    spoil(recorded, "out.out", recorded.tensors["out.out"][recorded.tensors["out.out"].size() / 2] + 0.001);
    const ToolRun run = verify(recorded);
    EXPECT_EQ(run.exit_code, 1) << run.out;
    EXPECT_NE(run.out.find("FAIL"), std::string::npos) << run.out;
    EXPECT_NE(run.out.find("1 of 2960 elements are wrong"), std::string::npos) << run.out;
    const Json json = Json::parse(verify(recorded, {"--json"}).out, nullptr, false);
    EXPECT_EQ(json["cases"][0]["verdict"], "FAIL");
}

TEST_F(VerifyTest, NanOnOneSideFails) {
    ChangedCase recorded = changed();
    spoil(recorded, "out.out", std::numeric_limits<double>::quiet_NaN());
    for (const char *dtype : {"f32", "bf16"}) {
        const ToolRun run = verify(recorded, {"--dtype", dtype});
        EXPECT_EQ(run.exit_code, 1) << run.out;
        EXPECT_NE(run.out.find("NaN"), std::string::npos) << run.out;
    }
}

TEST_F(VerifyTest, OtherRoutesFail) {
    ChangedCase recorded = changed();
    HostTensor &routes = recorded.tensors["route.query_router.idx"];
    double other = 0;
    for (size_t i = 0; i < routes.size() / 2; i++) {
        other = std::max(other, routes[i] + 1);
    }
    routes.set(0, other < 37 ? other : 0);
    EXPECT_EQ(verify(recorded).exit_code, 1);
}

TEST_F(VerifyTest, BadFilesAreOneLineEach) {
    const std::string text = folder / "text.safetensors", cut = folder / "cut.safetensors";
    write_file(text, "no safetensors file at all");
    write_file(cut, contents(golden).substr(0, contents(golden).size() - 100));
    for (const std::string &path : {text, cut, folder / "missing.safetensors", kModels + "/masked_lm_sample.safetensors"}) {
        const ToolRun run = run_tool({"verify", path});
        EXPECT_EQ(run.exit_code, 2) << run.err;
        EXPECT_EQ(run.error_lines(), 1) << run.err;
        EXPECT_NE(run.err.find(path), std::string::npos) << run.err;
    }
    // The others are verified all the same.
    const ToolRun run = run_tool({"verify", text, golden});
    EXPECT_EQ(run.exit_code, 2);
    EXPECT_NE(run.out.find("PASS " + golden), std::string::npos) << run.out;
}

TEST_F(VerifyTest, InconsistentCasesAreBadInput) {
    const auto expect_bad = [&](const char *what, auto change) {
        ChangedCase recorded = changed();
        change(recorded);
        const ToolRun run = verify(recorded);
        EXPECT_EQ(run.exit_code, 2) << what << run.out;
        EXPECT_EQ(run.error_lines(), 1) << what << run.err;
        EXPECT_EQ(run.err.find("internal"), std::string::npos) << run.err;
    };
    expect_bad("no case", [](ChangedCase &c) { c.metadata.erase("case"); });
    expect_bad("case is no JSON", [](ChangedCase &c) { c.metadata["case"] = "{\"config\": "; });
    expect_bad("a long case", [](ChangedCase &c) { c.metadata["case"].append(size_t{1} << 20, ' '); });
    expect_bad("case without config", [](ChangedCase &c) { c.metadata["case"] = "{}"; });
    expect_bad("config without module", [](ChangedCase &c) { c.metadata["case"] = "{\"config\": {\"init\": 3}}"; });
    expect_bad("no x", [](ChangedCase &c) { c.tensors.erase("in.x"); });
    expect_bad("no weight", [](ChangedCase &c) { c.tensors.erase("w.attn.null_kv"); });
    expect_bad("another weight", [](ChangedCase &c) { c.tensors["w.attn.nothing"] = HostTensor(DType::f32, {1}); });
    expect_bad("nothing recorded", [](ChangedCase &c) { std::erase_if(c.tensors, [](const auto &t) { return t.first.starts_with("out.") || t.first.starts_with("route."); }); });
    expect_bad("another output", [](ChangedCase &c) { c.tensors["out.more"] = HostTensor(DType::f32, {1}); });
    expect_bad("short output", [](ChangedCase &c) { c.tensors["out.out"] = HostTensor(DType::f32, {2, 36, 40}); });
    expect_bad("short route", [](ChangedCase &c) { c.tensors["route.query_router.idx"] = HostTensor(DType::i64, {2, 1, 8}); });
    expect_bad("short similarities", [](ChangedCase &c) { c.tensors["route.query_router.s"] = HostTensor(DType::f32, {2, 36}); });
    expect_bad("misshapen input", [](ChangedCase &c) { c.tensors["in.x"] = HostTensor(DType::f32, {2, 37, 39}); });
    expect_bad("input of another rank", [](ChangedCase &c) { c.tensors["in.x"] = HostTensor(DType::f32, {}); });
    expect_bad("misshapen mask", [](ChangedCase &c) { c.tensors["in.mask"] = HostTensor(DType::boolean, {2, 36}); });
    expect_bad("mask of floats", [](ChangedCase &c) { c.tensors["in.mask"] = HostTensor(DType::f32, {2, 37}); });
    expect_bad("option of another type", [](ChangedCase &c) { add_option(c, "init", "heads", "eight"); });
    expect_bad("negative option", [](ChangedCase &c) { add_option(c, "init", "num_experts", -3); });
    expect_bad("huge option", [](ChangedCase &c) { add_option(c, "init", "num_experts", int64_t{1} << 39); });
    expect_bad("larger option", [](ChangedCase &c) { add_option(c, "init", "num_experts", uint64_t{1} << 63); });
    expect_bad("no queries", [](ChangedCase &c) { add_option(c, "init", "num_routed_queries", 0); });
}

TEST_F(VerifyTest, UnsupportedIsNoFailure) {
    const auto expect_unsupported = [&](const char *what, ChangedCase recorded, const std::vector<std::string> &options = {}) {
        const ToolRun run = verify(recorded, options);
        EXPECT_EQ(run.exit_code, 3) << what << run.out << run.err;
        EXPECT_NE(run.out.find("UNSUPPORTED"), std::string::npos) << what << run.out;
    };
    ChangedCase module = changed(), option = changed(), argument = changed(), some_fixed = changed("moa_self_e2_local_ref"), input = changed(), decode = changed("lmha_causal_exact");
    rename_module(module, "MixtureOfAutoregressiveAttention");
    expect_unsupported("module", module);
    add_option(option, "init", "shuffle", true);
    expect_unsupported("option", option);
    add_option(argument, "call", "random_route", true);
    expect_unsupported("argument", argument);
    Json json = Json::parse(some_fixed.metadata["case"]);
    json["config"]["fix"] = {"gather"};
    some_fixed.metadata["case"] = json.dump();
    expect_unsupported("a part of the repairs", some_fixed);
    input.tensors["in.more"] = HostTensor(DType::f32, {1});
    expect_unsupported("input", input);
    decode.tensors["in.cache"] = HostTensor(DType::f32, {2, 2, 3, 4, 16});
    expect_unsupported("decoding", decode);
    if (cuda::device_count() == 0) {
        expect_unsupported("device", changed(), {"--device", "cuda"});
    }

    const ToolRun mixed = run_tool({"verify", golden, folder / "case.safetensors"});
    EXPECT_EQ(mixed.exit_code, 0) << mixed.out;  // the last one written is fine on the cpu
}

TEST_F(VerifyTest, FailuresOutweighWhatIsUnsupported) {
    ChangedCase wrong = changed(), module = changed();
    spoil(wrong, "out.out", 1e9);
    rename_module(module, "Transformer");
    ASSERT_TRUE(wrong.write(folder / "wrong.safetensors").ok() && module.write(folder / "module.safetensors").ok());
    EXPECT_EQ(run_tool({"verify", folder / "module.safetensors", folder / "wrong.safetensors", golden}).exit_code, 1);
    EXPECT_EQ(run_tool({"verify", folder / "module.safetensors", golden}).exit_code, 3);
}

// Python writes numbers that JSON does not have.
TEST_F(VerifyTest, PythonsInfinityIsRead) {
    ChangedCase recorded = changed();
    std::string &text = recorded.metadata["case"];
    text.insert(text.rfind('}'), ", \"gap\": Infinity, \"a\": [-Infinity, NaN], \"quoted \\\" NaN\": \"Infinity\"");
    EXPECT_EQ(verify(recorded).exit_code, 0);
}

TEST_F(VerifyTest, ForcedRowsRunOrAreUnsupported) {
    for (const Row &row : built_rows()) {
        if (row.op != "attention" || row.dtype != "f32") {
            continue;
        }
        const ToolRun run = run_tool({"verify", "--json", "--row", std::string(row.name), golden});
        const Json first = Json::parse(run.out, nullptr, false)["cases"][0];
        if (run.exit_code == 0) {
            EXPECT_NE(std::find(first["rows"].begin(), first["rows"].end(), Json(row.name)), first["rows"].end()) << run.out;
        } else {
            EXPECT_EQ(run.exit_code, 3) << run.out << run.err;
            EXPECT_NE(first["reason"].get<std::string>().find(row.name), std::string::npos) << run.out;
        }
    }
}

}  // namespace
}  // namespace moa::tools
