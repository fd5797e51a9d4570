#include "tests/golden/golden_files.h"
#include "tests/test_device.h"

#include <gtest/gtest.h>
#include <map>
#include <string>
#include <tuple>

namespace moa::tools {
namespace {

struct Numbers {
    DType dtype = DType::f32;
    Precision precision = Precision::exact;

    std::string name() const {
        return precision == Precision::tf32 ? "tf32" : std::string(name_of(dtype));
    }
};

class Golden : public testing::TestWithParam<std::tuple<std::string, Numbers>> {};

TEST_P(Golden, IsReproduced) {
    const auto &[path, numbers] = GetParam();
    if (!built_for(numbers.dtype, numbers.precision, tests::test_device().type)) {
        GTEST_SKIP() << "no rows of " << numbers.name() << " were built";
    }
    const Result<RecordedCase> recorded = RecordedCase::open(path);
    ASSERT_TRUE(recorded.ok()) << recorded.status().message();
    PlanOptions options;
    options.device = tests::test_device();
    options.dtype = numbers.dtype;
    options.precision = numbers.precision;
    const Result<CaseReport> report = verify_case(*recorded, options);
    ASSERT_TRUE(report.ok()) << report.status().message();
    EXPECT_EQ(report->verdict, Verdict::pass) << describe(*report) << "\nreplay: moa verify --device " << name_of(options.device) << " --dtype " << name_of(numbers.dtype) << (numbers.precision == Precision::tf32 ? " --precision tf32 " : " ") << path;
    // Nothing that was recorded is left out, and nothing of the layer's is compared with itself.
    EXPECT_FALSE(report->outputs.empty());
    EXPECT_GE(report->outputs.size(), recorded->file.tensors("out.").size());
    for (const OutputReport &output : report->outputs) {
        EXPECT_GT(output.elements, 0) << output.name;
    }
}

std::string name_of_golden(const testing::TestParamInfo<Golden::ParamType> &info) {
    return test_name(std::filesystem::path(std::get<0>(info.param)).stem().string() + "_" + std::get<1>(info.param).name());
}

INSTANTIATE_TEST_SUITE_P(Cases, Golden, testing::Combine(testing::ValuesIn(golden_files()), testing::Values(Numbers{}, Numbers{DType::bf16}, Numbers{DType::f16}, Numbers{DType::f32, Precision::tf32})), name_of_golden);

TEST(GoldenFiles, AreAllThere) {
    EXPECT_EQ(golden_files().size(), 52U);
}

// The bytes of every output, by name.
using Bytes = std::map<std::string, std::string>;

Bytes bytes_of(Outputs &outputs) {
    Bytes bytes;
    for (auto &[name, tensor] : outputs) {
        bytes[name] = std::string(static_cast<const char *>(tensor.view().data), tensor.size() * size_bytes(tensor.dtype()));
    }
    return bytes;
}

// Any number of threads gives the same outputs, to the last bit.
TEST(GoldenFiles, ThreadsDoNotMatter) {
    if (!built_for(DType::f32) || tests::on_gpu()) {
        GTEST_SKIP() << "no rows of f32 were built, or they run on a GPU";
    }
    size_t compared = 0;
    for (const std::string &path : golden_files()) {
        const Result<RecordedCase> recorded = RecordedCase::open(path);
        ASSERT_TRUE(recorded.ok()) << recorded.status().message();
        const Result<CaseLayer> layer = layer_of(*recorded);
        ASSERT_TRUE(layer.ok()) << path << ": " << layer.status().message();
        for (const DType dtype : {DType::f32, DType::bf16}) {
            if (!built_for(dtype)) {
                continue;
            }
            Bytes first;
            for (const int threads : {1, 2, 3, 7}) {
                PlanOptions options;
                options.dtype = dtype;
                options.threads = threads;
                const Result<Plan> plan = layer->plan(options, false);
                ASSERT_TRUE(plan.ok()) << path << ": " << plan.status().message();
                Result<Outputs> outputs = run_case(*layer, *plan);
                ASSERT_TRUE(outputs.ok()) << path << ": " << outputs.status().message();
                const Bytes bytes = bytes_of(*outputs);
                first = threads == 1 ? bytes : first;
                for (const auto &[name, content] : bytes) {
                    EXPECT_TRUE(content == first[name]) << name << " of " << path << " in " << name_of(dtype) << ": " << threads << " threads give other bits than 1";
                    compared += content.size();
                }
            }
        }
    }
    EXPECT_GT(compared, 0U);
}

}  // namespace
}  // namespace moa::tools
