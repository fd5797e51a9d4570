#include "workloads/workload.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>

// References of large shapes compute a sample of rows: it must see the ends and every kind of row, and say what it saw.
namespace moa::workloads {

namespace {

struct Sampled {
    const char *op;
    const char *shape;
    int64_t row;  // elements of one of the output's rows
};

class Sample : public testing::TestWithParam<Sampled> {};

TEST_P(Sample, SeesPartOfTheRowsAndBothEnds) {
    const auto [op, shape, row] = GetParam();
    const auto made = find_workload(op)->make({.op = op, .shape = shape});
    ASSERT_TRUE(made) << made.status().message();
    Instance &instance = **made;
    instance.poison();
    const Report all = instance.compare();
    EXPECT_EQ(all.checked, all.elements) << "without a limit everything is checked";
    instance.limit_reference(instance.flops() / 8);
    const Report part = instance.compare();
    EXPECT_EQ(part.elements, all.elements);
    EXPECT_LT(part.checked, part.elements / 4);
    EXPECT_GT(part.checked, part.elements / 16);
    EXPECT_GE(part.checked, 16 * row);
    EXPECT_FALSE(part.ok()) << "poison is no result";
    EXPECT_EQ(part.wrong, part.elements) << "what the sample leaves out must be written all the same";
    instance.limit_reference(instance.flops());
    EXPECT_EQ(instance.compare().checked, all.elements);
}

INSTANTIATE_TEST_SUITE_P(Operations, Sample,
                         testing::Values(Sampled{"attention", "q500_k40_d16_h2", 16}, Sampled{"local_attention", "n500_w8_d16_h2", 16}, Sampled{"project", "rows700_in16_dim16", 16}),
                         [](const auto &tested) { return std::string(tested.param.op); });

}  // namespace

}  // namespace moa::workloads
