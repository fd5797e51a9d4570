#include "runtime/select.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace moa {

namespace {

template<class... Features>
constexpr CpuFeatures features(Features... list) {
    return (CpuFeatures{0} | ... | bit(list));
}

constexpr CpuFeatures kAvx2 = features(CpuFeature::sse41, CpuFeature::avx, CpuFeature::avx2, CpuFeature::fma, CpuFeature::f16c);
constexpr CpuFeatures kAvx512 = kAvx2 | features(CpuFeature::avx512f, CpuFeature::avx512bw, CpuFeature::avx512cd, CpuFeature::avx512dq, CpuFeature::avx512vl);
constexpr CpuFeatures kBf16 = kAvx512 | features(CpuFeature::avx512bf16);

constexpr std::array kHead64{Parameter{"head_dim", 64}};
constexpr std::array kKnobs{Parameter{"mr", 12}, Parameter{"panel", 32}};
constexpr std::array kSmallHeads{Range{"head_dim", 1, 256}};

Row row(std::string_view name, std::string_view schedule, std::string_view dtype, CpuFeatures required, std::span<const Parameter> statics = {},
        std::span<const Range> accepts = {}) {
    Row made{.name = name, .op = "attention", .schedule = schedule, .target = "x86", .dtype = dtype, .required = required};
    made.statics = statics;
    made.accepts = accepts;
    made.knobs = kKnobs;
    return made;
}

// As a build lists them, but for the reference row, which stands where it must not be taken.
std::vector<Row> rows() {
    Row other = row("project_f32", "cpu", "f32", 0);
    other.op = "project";
    return {other,
            row("reference", "reference", "any", 0),
            row("bf16_dot_64", "cpu_dot", "bf16", kBf16, kHead64),
            row("avx512_64", "cpu", "f32", kAvx512, kHead64),
            row("avx512", "cpu", "f32", kAvx512, {}, kSmallHeads),
            row("avx2", "cpu", "f32", kAvx2, {}, kSmallHeads),
            row("portable", "cpu", "any", 0, {}, kSmallHeads)};
}

DeviceDescription cpu(CpuFeatures has) {
    return {.device = {}, .name = "a cpu", .features = has, .cores = 4};
}

Problem attention(DType dtype, int64_t head_dim) {
    return {"attention", dtype, {{"queries", 512}, {"head_dim", head_dim}}};
}

std::string chosen(const Problem &problem, CpuFeatures has) {
    const std::vector<Row> all = rows();
    const Result<Choice> choice = select(problem, cpu(has), all);
    return choice.ok() ? std::string(choice->row->name) : "none: " + choice.status().message();
}

TEST(Select, EveryCpuGetsItsRow) {
    EXPECT_EQ(chosen(attention(DType::f32, 64), 0), "portable");
    EXPECT_EQ(chosen(attention(DType::f32, 64), kAvx2), "avx2");
    EXPECT_EQ(chosen(attention(DType::f32, 64), kAvx512), "avx512_64");
    EXPECT_EQ(chosen(attention(DType::f32, 64), kBf16), "avx512_64");
    EXPECT_EQ(chosen(attention(DType::bf16, 64), kBf16), "bf16_dot_64");
    EXPECT_EQ(chosen(attention(DType::bf16, 64), kAvx512), "portable");
}

TEST(Select, OneMissingFeatureIsEnough) {
    EXPECT_EQ(chosen(attention(DType::f32, 64), kAvx512 & ~bit(CpuFeature::avx512vl)), "avx2");
    EXPECT_EQ(chosen(attention(DType::f32, 64), kAvx2 & ~bit(CpuFeature::fma)), "portable");
}

TEST(Select, SizesDecideToo) {
    EXPECT_EQ(chosen(attention(DType::f32, 48), kBf16), "avx512");
    EXPECT_EQ(chosen(attention(DType::bf16, 48), kBf16), "portable");
    EXPECT_EQ(chosen(attention(DType::f32, 257), kBf16), "reference");
}

TEST(Select, ReferenceRowsComeLast) {
    EXPECT_EQ(chosen(attention(DType::f64, 300), kBf16), "reference");
}

TEST(Select, ReferenceRowsSaySo) {
    const std::vector<Row> all = rows();
    const Result<Choice> slow = select(attention(DType::f32, 257), cpu(kBf16), all), fast = select(attention(DType::f32, 64), cpu(kBf16), all);
    ASSERT_TRUE(slow.ok() && fast.ok());
    EXPECT_NE(slow->reason.find("a reference row, many times slower"), std::string::npos) << slow->reason;
    EXPECT_EQ(fast->reason.find("reference"), std::string::npos) << fast->reason;
}

TEST(Select, RowsPassedOverHaveReasons) {
    const std::vector<Row> all = rows();
    const Result<Choice> choice = select(attention(DType::f32, 48), cpu(kAvx2 & ~bit(CpuFeature::f16c) & ~bit(CpuFeature::fma)), all);
    ASSERT_TRUE(choice) << choice.status().message();
    EXPECT_EQ(choice->row->name, "portable");
    ASSERT_EQ(choice->passed_over.size(), 4u);
    EXPECT_EQ(choice->passed_over[0].row->name, "bf16_dot_64");
    EXPECT_EQ(choice->passed_over[0].reason, "is for bf16");
    EXPECT_EQ(choice->passed_over[1].reason, "needs fma, f16c, avx512f, avx512bw, avx512cd, avx512dq, avx512vl");
    EXPECT_EQ(choice->passed_over[3].reason, "needs fma, f16c");
    EXPECT_NE(choice->reason.find("attention f32 queries 512 head_dim 48"), std::string::npos) << choice->reason;
}

TEST(Select, StaticSizesAndRangesAreNamed) {
    const std::vector<Row> all = rows();
    const Result<Choice> choice = select(attention(DType::f32, 300), cpu(kAvx512), all);
    ASSERT_TRUE(choice);
    EXPECT_EQ(choice->passed_over[1].reason, "is for head_dim 64, not 300");
    EXPECT_EQ(choice->passed_over[2].reason, "takes head_dim 1 to 256, not 300");
}

TEST(Select, NothingThatAcceptsIsAnErrorWithEveryReason) {
    const std::vector<Row> all{row("avx512_64", "cpu", "f32", kAvx512, kHead64), row("avx2", "cpu", "bf16", kAvx2)};
    const Result<Choice> choice = select(attention(DType::f32, 64), cpu(kAvx2), all);
    ASSERT_FALSE(choice);
    EXPECT_EQ(choice.status().code(), Code::unsupported);
    for (const char *part : {"attention f32 queries 512 head_dim 64", "avx512_64 needs avx512f", "avx2 is for bf16", "a cpu"}) {
        EXPECT_NE(choice.status().message().find(part), std::string::npos) << choice.status().message();
    }
    const Result<Choice> none = select(attention(DType::f32, 64), cpu(kAvx2), {});
    EXPECT_NE(none.status().message().find("none was built"), std::string::npos);
}

TEST(Select, ForcedRowsAreTakenOrRefusedNeverReplaced) {
    const std::vector<Row> all = rows();
    const std::vector<std::string> reference{"project_f32", "reference"};
    const Result<Choice> taken = select(attention(DType::f32, 64), cpu(kAvx512), all, reference);
    ASSERT_TRUE(taken);
    EXPECT_EQ(taken->row->name, "reference");
    EXPECT_EQ(taken->reason, "forced");
    const std::vector<std::string> impossible{"bf16_dot_64"};
    const Result<Choice> refused = select(attention(DType::bf16, 64), cpu(kAvx512), all, impossible);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.status().code(), Code::unsupported);
    EXPECT_NE(refused.status().message().find("bf16_dot_64 needs avx512bf16"), std::string::npos) << refused.status().message();
    const std::vector<std::string> elsewhere{"project_f32"};
    EXPECT_EQ(select(attention(DType::f32, 64), cpu(kAvx512), all, elsewhere)->row->name, "avx512_64");
}

// What a row's kernel says of the arguments decides, too.
TEST(Select, ARowWhoseRehearsalFailsIsPassedOver) {
    const std::vector<Row> all = rows();
    const Problem problem = attention(DType::f32, 64);
    const auto refusing = [](std::vector<std::string_view> names, Code code) {
        return [names = std::move(names), code](const Row &row) {
            return std::find(names.begin(), names.end(), row.name) == names.end() ? Status() : Status(code, "wants 8 of them");
        };
    };
    const Result<Choice> next = select_rehearsed(problem, cpu(kAvx512), all, {}, refusing({"avx512_64", "avx512"}, Code::internal));
    ASSERT_TRUE(next) << next.status().message();
    EXPECT_EQ(next->row->name, "avx2");
    EXPECT_EQ(next->passed_over[1].reason, "cannot run it: wants 8 of them");
    const std::vector<std::string> forced{"avx512_64"};
    const Result<Choice> refused = select_rehearsed(problem, cpu(kAvx512), all, forced, refusing({"avx512_64"}, Code::internal));
    EXPECT_EQ(refused.status().message(), "wants 8 of them");
    // Another row would find no more memory, and no better arguments.
    for (const Code code : {Code::out_of_memory, Code::invalid_argument}) {
        EXPECT_EQ(select_rehearsed(problem, cpu(kAvx512), all, {}, refusing({"avx512_64"}, code)).status().code(), code);
    }
    const Result<Choice> none = select_rehearsed(problem, cpu(0), all, {}, refusing({"portable", "reference"}, Code::device_error));
    EXPECT_EQ(none.status().code(), Code::device_error);
    EXPECT_NE(none.status().message().find("portable cannot run it: wants 8 of them"), std::string::npos) << none.status().message();
}

TEST(Select, RowsOfTheCpuDoNotRunElsewhere) {
    const std::vector<Row> all = rows();
    DeviceDescription gpu = cpu(kBf16);
    gpu.device = {DeviceType::cuda, 0};
    const Result<Choice> choice = select(attention(DType::f32, 64), gpu, all);
    ASSERT_FALSE(choice);
    EXPECT_NE(choice.status().message().find("not cuda:0"), std::string::npos) << choice.status().message();
}

TEST(Select, SizesThatAProblemDoesNotHaveAreNotGuessed) {
    const std::vector<Row> all{row("avx512_64", "cpu", "f32", 0, kHead64)};
    EXPECT_FALSE(select(Problem("attention", DType::f32, {}), cpu(0), all));
}

TEST(Row, KnobsAreFoundByName) {
    const Row made = row("r", "cpu", "f32", 0);
    EXPECT_EQ(made.knob("panel", 16), 32);
    EXPECT_EQ(made.knob("pair", 1), 1);
}

}  // namespace

}  // namespace moa
