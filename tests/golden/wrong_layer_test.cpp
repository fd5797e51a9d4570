#include "tests/golden/changed_case.h"
#include "tests/golden/golden_files.h"
#include "tests/test_device.h"

#include <gtest/gtest.h>

// A tolerance is worth what it refuses: layers that are slightly wrong, as a kernel that misses a tail would be.
namespace moa::tools {
namespace {

// Drops the last of the channels that products sum over, if the tensor is one of a product's.
bool damage(const std::string &name, HostTensor &tensor) {
    const bool weights = name.ends_with("to_out.weight") || name.ends_with("to_kv.weight") || name.ends_with("to_qkv.weight");
    if (!weights && name != "in.k") {
        return false;
    }
    const auto channels = static_cast<size_t>(weights ? tensor.shape()[1] : tensor.shape().back());
    for (size_t i = channels - 1; i < tensor.size(); i += channels) {
        tensor.set(i, 0);
    }
    return true;
}

class WrongLayer : public testing::TestWithParam<std::string> {};

TEST_P(WrongLayer, FailsInEveryDtype) {
    const Result<SafeTensors> file = SafeTensors::open(GetParam());
    ASSERT_TRUE(file.ok()) << file.status().message();
    int damaged = 0;
    for (const auto &[name, tensor] : file->tensors()) {
        ChangedCase changed(*file);
        if (!damage(name, changed.tensors[name])) {
            continue;
        }
        damaged++;
        const std::string path = testing::TempDir() + "wrong_layer_" + test_name(std::filesystem::path(GetParam()).stem().string()) + ".safetensors";
        ASSERT_TRUE(changed.write(path).ok());
        const Result<RecordedCase> recorded = RecordedCase::open(path);
        std::filesystem::remove(path);
        ASSERT_TRUE(recorded.ok()) << recorded.status().message();
        for (const DType dtype : {DType::f32, DType::bf16}) {
            if (!built_for(dtype, Precision::exact, tests::test_device().type)) {
                continue;
            }
            PlanOptions options;
            options.device = tests::test_device();
            options.dtype = dtype;
            const Result<CaseReport> report = verify_case(*recorded, options);
            ASSERT_TRUE(report.ok()) << report.status().message();
            EXPECT_EQ(report->verdict, Verdict::fail) << "without the last channel of " << name << ", " << name_of(dtype) << describe(*report);
        }
    }
    EXPECT_TRUE(damaged > 0 || GetParam().find("router_") != std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(Cases, WrongLayer, testing::ValuesIn(golden_files()),
                         [](const auto &tested) { return test_name(std::filesystem::path(tested.param).stem().string()); });

}  // namespace
}  // namespace moa::tools
