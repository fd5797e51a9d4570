#include "tests/test_device.h"
#include "tools/models/masked_lm.h"
#include "tools/models/recorded_logits.h"

#include <algorithm>
#include <fstream>
#include <gtest/gtest.h>
#include <sstream>
#include <string>

namespace moa::tools {
namespace {

const std::string kModels = std::getenv("MOA_TEST_MODELS") != nullptr ? std::getenv("MOA_TEST_MODELS") : MOA_MODELS_DIR;

MaskedLm load(DType dtype, int threads = 0, Precision precision = Precision::exact) {
    PlanOptions options;
    options.device = tests::test_device();
    options.dtype = dtype;
    options.threads = threads;
    options.precision = precision;
    Result<MaskedLm> model = MaskedLm::load(kModels + "/masked_lm.safetensors", options);
    EXPECT_TRUE(model.ok()) << model.status().message();
    return *std::move(model);
}

struct Numbers {
    DType dtype = DType::f32;
    Precision precision = Precision::exact;
};

class Recorded : public testing::TestWithParam<Numbers> {};

TEST_P(Recorded, LogitsAreReproduced) {
    const auto [dtype, precision] = GetParam();
    if (!tests::on_gpu() && (dtype == DType::f16 || precision == Precision::tf32)) {
        GTEST_SKIP() << "f16 and tf32 are for GPUs: run with MOA_TEST_DEVICE=cuda:0";
    }
    MaskedLm model = load(dtype, 0, precision);
    const Result<RecordedComparison> c = compare_with_recorded(model, kModels + "/masked_lm_sample.safetensors");
    ASSERT_TRUE(c.ok()) << c.status().message();
    EXPECT_EQ(c->masked, 156);
    EXPECT_TRUE(c->pass(dtype, precision)) << "mean " << c->mean_difference << " max " << c->max_difference << " restored " << c->restored << " of "
                                           << c->masked << ", PyTorch " << c->restored_by_recorded
                                           << "\nreplay: moa demo --dtype " << name_of(dtype) << (precision == Precision::tf32 ? " --precision tf32" : "")
                                           << " --device " << name_of(tests::test_device());
}

INSTANTIATE_TEST_SUITE_P(Dtypes, Recorded, testing::Values(Numbers{}, Numbers{DType::bf16}, Numbers{DType::f16}, Numbers{DType::f32, Precision::tf32}),
                         [](const auto &tested) { return tested.param.precision == Precision::tf32 ? std::string("tf32") : std::string(name_of(tested.param.dtype)); });

// The bars are of the numbers that ran: what f32 must not do, f16 and tf32 may, each by its own rounding.
TEST(RecordedComparison, IsJudgedByWhatRoundingDoes) {
    const RecordedComparison rounded{.mean_difference = 2e-3, .max_difference = 0.5, .masked = 156, .restored = 104, .restored_by_recorded = 105};
    EXPECT_FALSE(rounded.pass(DType::f32, Precision::exact));
    EXPECT_TRUE(rounded.pass(DType::f16, Precision::exact));
    EXPECT_TRUE(rounded.pass(DType::f32, Precision::tf32));
    EXPECT_TRUE(rounded.pass(DType::bf16, Precision::exact));
    RecordedComparison far = rounded;
    far.mean_difference = 0.05;  // as bf16 may
    EXPECT_FALSE(far.pass(DType::f16, Precision::exact));
    EXPECT_FALSE(far.pass(DType::f32, Precision::tf32));
    EXPECT_TRUE(far.pass(DType::bf16, Precision::exact));
    RecordedComparison worse = rounded;
    worse.restored = 102;
    EXPECT_FALSE(worse.pass(DType::f16, Precision::exact));
    worse = rounded;
    worse.finite = false;
    EXPECT_FALSE(worse.pass(DType::f16, Precision::exact));
}

std::string passage(size_t length) {
    std::ifstream file(kModels + "/passage.txt", std::ios::binary);
    std::stringstream all;
    all << file.rdbuf();
    return all.str().substr(0, length);
}

TEST(MaskedLm, FillsTextsOfAnyLengthAndTouchesNothingElse) {
    MaskedLm model = load(DType::f32);
    for (const size_t length : {1, 2, 31, 129, 511, 512, 513, 1025}) {
        std::string damaged = passage(length);
        for (size_t i = 3; i < damaged.size(); i += 7) {
            damaged[i] = '_';
        }
        size_t last_progress = 0;
        const Result<std::string> restored = model.fill(damaged, '_', [&](size_t done, size_t) { last_progress = done; });
        ASSERT_TRUE(restored.ok()) << restored.status().message();
        ASSERT_EQ(restored->size(), damaged.size());
        EXPECT_EQ(last_progress, length);
        for (size_t i = 0; i < damaged.size(); i++) {
            EXPECT_TRUE(damaged[i] == '_' || (*restored)[i] == damaged[i]) << i;
        }
    }
}

TEST(MaskedLm, RestoresMostOfHeldOutText) {
    MaskedLm model = load(DType::f32);
    const std::string truth = passage(4096);
    std::string damaged = truth;
    for (size_t i = 2; i < damaged.size(); i += 7) {
        damaged[i] = damaged[i] == '\n' ? '\n' : '_';
    }
    const Result<std::string> restored = model.fill(damaged, '_');
    ASSERT_TRUE(restored.ok()) << restored.status().message();
    int lost = 0, right = 0;
    for (size_t i = 0; i < truth.size(); i++) {
        lost += damaged[i] != truth[i] ? 1 : 0;
        right += damaged[i] != truth[i] && (*restored)[i] == truth[i] ? 1 : 0;
    }
    EXPECT_GT(right, lost * 7 / 10) << right << " of " << lost;
}

// Shorter texts than a window, or than what a layer routes.
TEST(MaskedLm, RestoresShortTexts) {
    MaskedLm model = load(DType::f32);
    const std::string truth = passage(8192);
    int lost = 0, right = 0;
    for (size_t begin = 0; begin + 60 <= truth.size(); begin += 300) {
        const std::string line = truth.substr(begin, 60);
        std::string damaged = line;
        for (size_t i = 2; i < damaged.size(); i += 7) {
            damaged[i] = damaged[i] == '\n' ? '\n' : '_';
        }
        const Result<std::string> restored = model.fill(damaged, '_');
        ASSERT_TRUE(restored.ok()) << restored.status().message();
        for (size_t i = 0; i < line.size(); i++) {
            lost += damaged[i] != line[i] ? 1 : 0;
            right += damaged[i] != line[i] && (*restored)[i] == line[i] ? 1 : 0;
        }
    }
    EXPECT_GT(right, lost * 6 / 10) << right << " of " << lost;
}

TEST(MaskedLm, RefusesWhatIsNoModel) {
    EXPECT_FALSE(MaskedLm::load(kModels + "/nothing.safetensors", {}).ok());
    EXPECT_FALSE(MaskedLm::load(kModels + "/passage.txt", {}).ok());
    const Result<MaskedLm> sample = MaskedLm::load(kModels + "/masked_lm_sample.safetensors", {});
    ASSERT_FALSE(sample.ok());
    EXPECT_NE(sample.status().message().find("config"), std::string::npos);
    MaskedLm model = load(DType::f32);
    const std::vector<int32_t> tokens{1, 2, 999};
    EXPECT_NE(model.logits(tokens, 1).status().message().find("999"), std::string::npos);
}

}  // namespace
}  // namespace moa::tools
