#include "moa/device.h"
#include "moa/rows.h"
#include "tests/ops/row_tests.h"
#include "workloads/workload.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

// Rows that multiply f32 numbers as sums of bf16 pieces claim to be as exact as plain f32.
namespace moa::workloads {

namespace {

// What an instance's output is off by: the largest error.
double error_of(Instance &instance, const Row &row) {
    EXPECT_TRUE(instance.prepare(row).ok());
    const Status status = run_with(instance, row, 1);
    EXPECT_TRUE(status.ok()) << row.name << ": " << status.message();
    return instance.compare().error;
}

bool runs(const Row &row, const Problem &problem) {
    return row.device == DeviceType::cpu && row.schedule == "cpu" && select(problem, describe_host(), {&row, 1}).ok();
}

class Pieces : public testing::TestWithParam<std::string> {};

TEST_P(Pieces, AreAsExactAsF32) {
    const auto made = find_workload("project")->make({.op = "project", .shape = GetParam()});
    ASSERT_TRUE(made) << made.status().message();
    std::vector<const Row *> pieces, plain;
    for (const Row &row : built_rows()) {
        if (runs(row, (*made)->problem())) {
            (row.knob("pieces", 1) > 1 ? pieces : plain).push_back(&row);
        }
    }
    if (pieces.empty()) {
        GTEST_SKIP() << "no row of pieces runs on " << describe_host().name;
    }
    ASSERT_FALSE(plain.empty());
    const double f32 = error_of(**made, *plain.front());
    for (const Row *row : pieces) {
        const double error = error_of(**made, *row);
        RecordProperty(std::string(row->name), std::to_string(error / f32));
        EXPECT_LE(error, f32) << row->name << " is off by " << error << ", " << plain.front()->name << " by " << f32;
    }
}

INSTANTIATE_TEST_SUITE_P(Project, Pieces, testing::Values("rows96_in64_heads8_dim64", "rows96_in512_heads8_dim64", "rows96_in1500_heads8_dim64"));

}  // namespace

}  // namespace moa::workloads
