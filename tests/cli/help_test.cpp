#include "tests/cli/tool_run.h"

#include "moa/version.h"

namespace moa::tools {
namespace {

const std::vector<std::string> kCommands{"demo", "fill", "verify", "run", "bench", "rows", "devices"};

TEST(Help, NamesEveryCommandAndExitCode) {
    const ToolRun help = run_tool({"--help"});
    EXPECT_EQ(help.exit_code, 0);
    EXPECT_EQ(help.err, "");
    for (const std::string &command : kCommands) {
        EXPECT_NE(help.out.find("\n  " + command + " "), std::string::npos) << command;
    }
    for (const char *part : {"Exit codes:", "Examples:", "--version"}) {
        EXPECT_NE(help.out.find(part), std::string::npos) << part;
    }
}

TEST(Help, OfEveryCommandHasExamples) {
    for (const std::string &command : kCommands) {
        const ToolRun help = run_tool({command, "--help"});
        EXPECT_EQ(help.exit_code, 0) << command;
        EXPECT_EQ(help.err, "") << command;
        EXPECT_NE(help.out.find("moa " + command), std::string::npos) << command;
        EXPECT_NE(help.out.find("Example"), std::string::npos) << command;
    }
}

TEST(Help, IsWhatNoCommandGets) {
    const ToolRun alone = run_tool({});
    EXPECT_EQ(alone.exit_code, 0);
    EXPECT_EQ(alone.err, "");
    EXPECT_EQ(alone.out, run_tool({"--help"}).out);
}

TEST(Help, VersionIsThatOfTheHeaders) {
    const ToolRun version = run_tool({"--version"});
    EXPECT_EQ(version.exit_code, 0);
    EXPECT_EQ(version.out, "moa " MOA_VERSION "\n");
}

// One line that names what is wrong, and exit code 2.
TEST(Usage, MistakesAreNamedInOneLine) {
    const std::string golden = kGolden + "/router_default.safetensors";
    const std::vector<std::pair<std::vector<std::string>, std::string>> mistakes{
        {{"--nonsense"}, "--nonsense"},
        {{"nonsense"}, "nonsense"},
        {{"devices", "--nonsense"}, "--nonsense"},
        {{"rows", "--op", "nonsense"}, "nonsense"},
        {{"rows", "--target", "z80"}, "z80"},
        {{"rows", "--op"}, "--op"},
        {{"verify"}, "files"},
        {{"verify", "--nonsense", golden}, "--nonsense"},
        {{"verify", "--dtype", "f99", golden}, "f99"},
        {{"verify", "--device", "toaster", golden}, "toaster"},
        {{"verify", "--device", "cuda:x", golden}, "cuda:x"},
        {{"verify", "--device", "cuda:-1", golden}, "cuda:-1"},
        {{"verify", "--threads", "-1", golden}, "-1"},
        {{"verify", "--threads", "many", golden}, "many"},
        {{"verify", "--threads", "257", golden}, "257"},
        {{"verify", "--row", "nobody", golden}, "nobody"},
        {{"run", golden}, "output"},
        {{"fill"}, "text"},
        {{"fill", "--text", "-", "--mark", "ab"}, "'ab'"},
        {{"demo", "--lost", "2"}, "--lost is 2"},
        {{"demo", "--lost", "nan"}, "nan"},
        {{"demo", "--offset", "-1"}, "--offset -1"},
        {{"demo", "--length", "9223372036854775807"}, "9223372036854775807"},
        {{"demo", "--models", "/nowhere"}, "/nowhere"},
        {{"demo", "--seed", "-1"}, "--seed"},
        {{"bench", "--nonsense"}, "--nonsense"},
    };
    for (const auto &[arguments, part] : mistakes) {
        const ToolRun run = run_tool(arguments);
        EXPECT_EQ(run.exit_code, 2) << part;
        EXPECT_EQ(run.error_lines(), 1) << run.err;
        EXPECT_NE(run.err.find(part), std::string::npos) << run.err;
        EXPECT_EQ(run.out, "") << part;
    }
}

TEST(Usage, AFullStandardOutputIsAnError) {
    EXPECT_EQ(WEXITSTATUS(std::system((quoted(MOA_TOOL) + " rows >/dev/full 2>/dev/null").c_str())), 2);
}

}  // namespace
}  // namespace moa::tools
