#include "runtime/bf16.h"
#include "workloads/data.h"
#include "workloads/workload.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <string>

// The harness itself: a check that can be fooled proves nothing.
namespace moa::workloads {

namespace {

constexpr Key kKeys[] = {{"rows", 4, 0, 1000, ""}, {"in", 8, 1, 1000, ""}, {"gather", 0, 0, 1, ""}};

TEST(Shape, NamesValuesAndFallbacks) {
    const Result<Shape> shape = Shape::parse(kKeys, "rows12_gather");
    ASSERT_TRUE(shape) << shape.status().message();
    EXPECT_EQ((*shape)("rows"), 12);
    EXPECT_EQ((*shape)("in"), 8);
    EXPECT_EQ((*shape)("gather"), 1);
    EXPECT_TRUE(Shape::parse(kKeys, "").ok());
    EXPECT_EQ((*Shape::parse(kKeys, "rows"))("rows"), 1);
}

TEST(Shape, HostileTextIsRefusedByName) {
    const std::pair<std::string, std::string> cases[] = {
        {"row12", "row12"},
        {"rows-1", "rows-1"},
        {"rows1001", "1000"},
        {"in0", "in0"},
        {"rows1_rows2", "twice"},
        {"rows12x", "12x"},
        {"rows99999999999999999999", "99999999999999999999"},
        {"_", "''"},
        {"rows1_", "''"},
        {"rows 1", "rows 1"},
        {"rows\n1", "rows?1"},
        {"%s%n", "%s%n"},
        {"gather2", "gather2"},
        {"ROWS1", "ROWS1"},
        {std::string(100000, 'r'), "longer"},
    };
    for (const auto &[text, offending] : cases) {
        const Result<Shape> shape = Shape::parse(kKeys, text);
        ASSERT_FALSE(shape.ok()) << text.substr(0, 40);
        EXPECT_EQ(shape.status().code(), Code::invalid_argument);
        EXPECT_NE(shape.status().message().find(offending), std::string::npos) << shape.status().message();
    }
}

TEST(Workload, ContradictingOrHugeSizesAreRefused) {
    const std::pair<std::string, std::string> cases[] = {{"select_tokens", "n4_k5"},
                                                         {"combine", "n4_m5"},
                                                         {"project", "dim3_rotary1"},
                                                         {"project", "rows16777216_in1048576"},
                                                         {"project", "heads65536_dim65536_e4096"},
                                                         {"local_attention", "causal_fwd"},
                                                         {"attention", "q16777216_k16777216_d4096"},
                                                         {"router_scores", "n16777216_c1048576_b1048576"},
                                                         {"route_slots", "n2_k3"},
                                                         {"select_slots", "n2_k3"}};
    for (const auto &[op, shape] : cases) {
        const auto made = find_workload(op)->make({.op = op, .shape = shape});
        ASSERT_FALSE(made.ok()) << op << " " << shape;
        EXPECT_NE(made.status().message().find(shape), std::string::npos) << made.status().message();
    }
    EXPECT_FALSE(find_workload("rotary_table")
                     ->make({.op = "rotary_table", .dtype = DType::bf16, .shape = "d2"})
                     .ok());
    EXPECT_EQ(find_workload("no_such_op"), nullptr);
}

TEST(Workload, EveryListedShapeParses) {
    for (const Workload *workload : all_workloads()) {
        for (const Intent intent :
             {Intent::smoke, Intent::regular, Intent::irregular, Intent::options, Intent::edges, Intent::not_finite, Intent::perf}) {
            // Integers are finite, and rows of many operations take problems of any size.
            const bool may_be_none = intent == Intent::edges || (intent == Intent::not_finite && workload->name() == "copy_indices");
            EXPECT_TRUE(may_be_none || !workload->shapes(intent).empty()) << workload->name();
            for (const std::string &shape : workload->shapes(intent)) {
                const Result<Shape> parsed = Shape::parse(workload->keys(), shape);
                EXPECT_TRUE(parsed) << workload->name() << ": " << parsed.status().message();
            }
        }
    }
}

// Outputs that nobody wrote must not pass, and what is expected must not be nothing but zeros.
TEST(Workload, PoisonedOutputsFail) {
    for (const Workload *workload : all_workloads()) {
        for (const DType dtype : workload->dtypes()) {
            const auto made = workload->make({.op = std::string(workload->name()),
                                              .dtype = dtype,
                                              .shape = workload->shapes(Intent::smoke)[0]});
            ASSERT_TRUE(made) << made.status().message();
            (*made)->poison();
            const Report report = (*made)->compare();
            EXPECT_FALSE(report.ok()) << workload->name();
            EXPECT_FALSE(report.mostly_zero()) << workload->name() << ": " << report.describe();
            EXPECT_GT((*made)->flops(), 0);
            EXPECT_GT((*made)->bytes(), 0);
        }
    }
}

TEST(Tensor, GuardsSeeWritesBetweenAndAroundRows) {
    Tensor tensor("t", DType::f32, {5, 3, 2}, {.pad = 2, .shift = 1, .swap = true});
    EXPECT_EQ(tensor.view().axes[1].stride, (5 + 2) * 2 + 2);
    EXPECT_EQ(tensor.view().axes[2].stride, 5 + 2);
    tensor.assign(Array({5, 3, 2}, 1));
    EXPECT_EQ(tensor.broken_guard_bytes(), 0);
    auto *data = static_cast<float *>(tensor.view().data);
    data[5] = 1;
    data[-1] = 1;
    EXPECT_EQ(tensor.broken_guard_bytes(), 8);
}

TEST(Tensor, ValuesComeBackInEveryDtype) {
    for (const DType dtype : {DType::f32, DType::bf16, DType::i32, DType::u8}) {
        Tensor tensor("t", dtype, {4, 3}, {.pad = 1});
        Array values({4, 3});
        for (size_t i = 0; i < values.data.size(); i++) {
            values.data[i] = static_cast<double>(i);
        }
        tensor.assign(values);
        EXPECT_EQ(tensor.values().data, values.data);
        tensor.poison();
        for (const double value : tensor.values().data) {
            EXPECT_TRUE(std::isnan(value) || dtype == DType::i32 || dtype == DType::u8);
            EXPECT_GT(std::isnan(value) ? 1e9 : value, 100);
        }
    }
}

Report compared(double got, double want, double bound) {
    Tensor tensor("t", DType::f32, {3});
    Array values({3}, 1);
    values(1) = got;
    tensor.assign(values);
    Expected expected{Array({3}, 1), Array({3}, 1)};
    expected.value(1) = want;
    expected.bound(1) = bound;
    return compare(tensor, expected);
}

TEST(Compare, NanAndInfinityMustAgree) {
    EXPECT_TRUE(compared(NAN, NAN, 1).ok());
    EXPECT_TRUE(compared(INFINITY, INFINITY, 1).ok());
    EXPECT_FALSE(compared(NAN, 1, 1e30).ok());
    EXPECT_FALSE(compared(1, NAN, 1e30).ok());
    EXPECT_FALSE(compared(-INFINITY, INFINITY, 1e30).ok());
    EXPECT_FALSE(compared(INFINITY, 1, 1e30).ok());
    EXPECT_FALSE(compared(NAN, 1, INFINITY).ok());
    EXPECT_TRUE(compared(2, 1, INFINITY).ok());
    EXPECT_TRUE(compared(NAN, 1, kOpen).ok());
    EXPECT_FALSE(compared(NAN, INFINITY, 1).ok());
    EXPECT_TRUE(compared(NAN, INFINITY, kNotFinite).ok());
    EXPECT_TRUE(compared(INFINITY, NAN, kNotFinite).ok());
    EXPECT_FALSE(compared(1, NAN, kNotFinite).ok());
}

TEST(Compare, WorstElementIsNamed) {
    const Report report = compared(2, 1.5, 0.25);
    EXPECT_FALSE(report.ok());
    EXPECT_EQ(report.index, "[1]");
    EXPECT_EQ(report.wrong, 1);
    EXPECT_DOUBLE_EQ(report.error, 0.5);
    EXPECT_TRUE(compared(1.75, 1.5, 0.25).ok());
    EXPECT_FALSE(compared(1 + 0x1p-23, 1, 0).ok());
}

TEST(Bf16, EveryValueSurvives) {
    for (uint32_t bits = 0; bits < 0x10000; bits++) {
        const auto value = static_cast<uint16_t>(bits);
        const float wide = bf16_to_f32(value);
        const uint16_t back = f32_to_bf16(wide);
        EXPECT_EQ(back, std::isnan(wide) ? value | 0x40 : value);
    }
}

TEST(Bf16, RoundsToNearestEven) {
    const auto rounded = [](float value) { return bf16_to_f32(f32_to_bf16(value)); };
    EXPECT_EQ(rounded(1 + 0x1p-8f), 1.f);          // a tie, to even
    EXPECT_EQ(rounded(1 + 0x3p-8f), 1 + 0x1p-6f);  // a tie, to even
    EXPECT_EQ(rounded(1 + 0x1p-8f + 0x1p-20f), 1 + 0x1p-7f);
    EXPECT_EQ(rounded(-1 - 0x1p-8f), -1.f);
    EXPECT_TRUE(std::isinf(rounded(3.4e38f)));
    EXPECT_TRUE(std::isnan(rounded(std::bit_cast<float>(0x7f800001u))));
    EXPECT_TRUE(std::isnan(rounded(std::bit_cast<float>(0xffffffffu))));
    EXPECT_EQ(f32_to_bf16(0x1p-149f), 0);
}

}  // namespace

}  // namespace moa::workloads
