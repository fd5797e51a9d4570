#include "tests/golden/golden_files.h"

#include <gtest/gtest.h>
#include <tuple>

namespace moa::tools {
namespace {

class Golden : public testing::TestWithParam<std::tuple<std::string, DType>> {};

TEST_P(Golden, IsReproduced) {
    const auto &[path, dtype] = GetParam();
    if (!built_for(dtype)) {
        GTEST_SKIP() << "no rows of " << name_of(dtype) << " were built";
    }
    const Result<RecordedCase> recorded = RecordedCase::open(path);
    ASSERT_TRUE(recorded.ok()) << recorded.status().message();
    PlanOptions options;
    options.dtype = dtype;
    const Result<CaseReport> report = verify_case(*recorded, options);
    ASSERT_TRUE(report.ok()) << report.status().message();
    EXPECT_EQ(report->verdict, Verdict::pass) << describe(*report) << "\nreplay: moa verify --dtype " << name_of(dtype) << " " << path;
    // Nothing that was recorded is left out, and nothing of the layer's is compared with itself.
    EXPECT_FALSE(report->outputs.empty());
    EXPECT_GE(report->outputs.size(), recorded->file.tensors("out.").size());
    for (const OutputReport &output : report->outputs) {
        EXPECT_GT(output.elements, 0) << output.name;
    }
}

std::string name_of_golden(const testing::TestParamInfo<Golden::ParamType> &info) {
    return test_name(std::filesystem::path(std::get<0>(info.param)).stem().string() + "_" + std::string(name_of(std::get<1>(info.param))));
}

INSTANTIATE_TEST_SUITE_P(Cases, Golden, testing::Combine(testing::ValuesIn(golden_files()), testing::Values(DType::f32, DType::bf16)), name_of_golden);

TEST(GoldenFiles, AreAllThere) {
    EXPECT_EQ(golden_files().size(), 42U);
}

// Any number of threads gives the same errors to the last bit.
TEST(GoldenFiles, ThreadsDoNotMatter) {
    if (!built_for(DType::f32)) {
        GTEST_SKIP() << "no rows of f32 were built";
    }
    for (const std::string &path : golden_files()) {
        const Result<RecordedCase> recorded = RecordedCase::open(path);
        ASSERT_TRUE(recorded.ok()) << recorded.status().message();
        std::vector<double> errors;
        for (const int threads : {1, 3}) {
            PlanOptions options;
            options.threads = threads;
            const Result<CaseReport> report = verify_case(*recorded, options);
            ASSERT_TRUE(report.ok()) << path << ": " << report.status().message();
            for (const OutputReport &output : report->outputs) {
                errors.push_back(output.error);
            }
        }
        const auto half = static_cast<std::ptrdiff_t>(errors.size() / 2);
        EXPECT_TRUE(std::equal(errors.begin(), errors.begin() + half, errors.begin() + half)) << path;
    }
}

}  // namespace
}  // namespace moa::tools
