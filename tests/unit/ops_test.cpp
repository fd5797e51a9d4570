#include "runtime/ops.h"

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <string>
#include <vector>

// What the wrappers of operations refuse and what they do without a kernel. What kernels compute is the business of tests/ops.
namespace moa::ops {

namespace {

int launches;

Row row_of(std::string_view op) {
    Row row;
    row.name = "test__row";
    row.op = op;
    row.schedule = "cpu";
    row.dtype = "f32";
    row.function = [](void **) {
        launches++;
        return 0;
    };
    return row;
}

template<class Arguments>
Status run_on(const Row &row, const Arguments &arguments) {
    launches = 0;
    Run state(1, {});
    return run(state, row, arguments);
}

void expect_refused(const Status &status, const std::string &part) {
    EXPECT_EQ(status.code(), Code::invalid_argument) << status.message();
    EXPECT_NE(status.message().find(part), std::string::npos) << status.message();
    EXPECT_EQ(launches, 0);
}

class OpsTest : public testing::Test {
protected:
    View floats(std::initializer_list<int64_t> extents) {
        return View::dense(memory_.data(), DType::f32, extents);
    }
    View integers(std::initializer_list<int64_t> extents) {
        return View::dense(memory_.data(), DType::i32, extents);
    }
    View bytes(std::initializer_list<int64_t> extents) {
        return View::dense(memory_.data(), DType::u8, extents);
    }

    std::vector<float> memory_ = std::vector<float>(4096);
};

TEST_F(OpsTest, RowsOfOtherOperationsAreRefused) {
    const RowStatistics a{floats({4, 5, 1}), floats({5, 3, 1})};
    EXPECT_TRUE(run_on(row_of("row_statistics"), a));
    EXPECT_EQ(launches, 1);
    expect_refused(run_on(row_of("combine"), a), "combine");
}

TEST_F(OpsTest, StaticValuesMustBeTheProblems) {
    static constexpr Parameter kWidth[] = {{"head_dim", 64}};
    Row row = row_of("attention");
    row.statics = kWidth;
    Attention a{floats({8, 3, 1, 1, 1}), floats({8, 2, 1, 1, 1}), floats({8, 2, 1, 1, 1}), one_u8(3), zero_f32(3), zero_f32(3), 1, true, floats({8, 3, 1, 1, 1})};
    expect_refused(run_on(row, a), "head_dim 64, not 8");
}

TEST_F(OpsTest, ContradictingShapesAreNamedWithTheirSizes) {
    expect_refused(run_on(row_of("row_statistics"), RowStatistics{floats({4, 5, 1}), floats({6, 3, 1})}), "axis 0 of stats is 6, not 5");
    expect_refused(run_on(row_of("row_statistics"), RowStatistics{floats({4, 5}), floats({5, 3, 1})}), "x has 2 axes, not 3");
    expect_refused(run_on(row_of("row_statistics"), RowStatistics{floats({0, 5, 1}), floats({5, 3, 1})}), "no channels");
    RouterScores scores{floats({4, 5, 2}), floats({4, 3, 1}), 0, floats({5, 3, 2}), floats({5, 3, 2})};
    expect_refused(run_on(row_of("router_scores"), scores), "tokens");
    scores.tokens = scores.tokens.pick(2, 0).insert(2, {1, 0});  // one set of tokens for every batch entry
    EXPECT_TRUE(run_on(row_of("router_scores"), scores));
}

TEST_F(OpsTest, SelectionIsCheckedAgainstItsPositions) {
    SelectTokens a{floats({8, 1, 1}), one_u8(2), 9, 0, integers({9, 1, 1})};
    expect_refused(run_on(row_of("select_tokens"), a), "k is 9, of 8");
    a.k = 4;
    expect_refused(run_on(row_of("select_tokens"), a), "indices");
    a.indices = integers({4, 1, 1});
    EXPECT_TRUE(run_on(row_of("select_tokens"), a));
    a.offset = INT32_MAX - 3;
    expect_refused(run_on(row_of("select_tokens"), a), "2^31");
}

TEST_F(OpsTest, NoSlotsLeaveEveryPositionUnrouted) {
    std::vector<int32_t> slots(6, 77);
    RouteSlots a;
    a.indices = integers({0, 1, 2});
    a.mask = one_u8(2);
    a.y = zero_f32(3);
    a.scores = floats({0, 1, 2});
    a.valid = bytes({0, 1, 2});
    a.rows = integers({0, 1, 2});
    a.slots = View::dense(slots.data(), DType::i32, {3, 1, 2});
    EXPECT_TRUE(run_on(row_of("route_slots"), a));
    EXPECT_EQ(launches, 0);
    EXPECT_EQ(slots, std::vector<int32_t>(6, -1));
    a.source_div = 0;
    expect_refused(run_on(row_of("route_slots"), a), "source_div is 0");
}

TEST_F(OpsTest, SelectedSlotsAreCheckedAndMayBeNone) {
    std::vector<int32_t> slots(6, 77);
    SelectSlots a;
    a.scores = floats({3, 1, 2});
    a.mask = one_u8(2);
    a.indices = a.rows = integers({0, 1, 2});
    a.routing_scores = floats({0, 1, 2});
    a.valid = bytes({0, 1, 2});
    a.slots = View::dense(slots.data(), DType::i32, {3, 1, 2});
    EXPECT_TRUE(run_on(row_of("select_slots"), a));
    EXPECT_EQ(launches, 0);
    EXPECT_EQ(slots, std::vector<int32_t>(6, -1));
    a.source_div = 0;
    expect_refused(run_on(row_of("select_slots"), a), "source_div is 0");
    a.source_div = 1;
    a.indices = a.rows = integers({4, 1, 2});
    a.routing_scores = floats({4, 1, 2});
    a.valid = bytes({4, 1, 2});
    expect_refused(run_on(row_of("select_slots"), a), "4 slots of 3");
}

TEST_F(OpsTest, ProductsCheckExpertsRowsAndScales) {
    Project a;
    a.x = floats({4, 6, 1});
    a.rows = zero_i32(3);
    a.weights = floats({8, 4, 1, 2});
    a.stats = zero_f32(3);
    a.colsum = a.bias = zero_f32(2);
    a.cosines = a.sines = zero_f32(4);
    a.positions = zero_i32(3);
    a.scale = one_f32(4);
    a.out = floats({8, 6, 1, 2, 1});
    EXPECT_TRUE(run_on(row_of("project"), a));
    EXPECT_EQ(launches, 1);
    Project other = a;
    other.weights = floats({8, 4, 1, 3});
    expect_refused(run_on(row_of("project"), other), "2 experts");
    other = a;
    other.out = floats({8, 5, 1, 2, 1});
    expect_refused(run_on(row_of("project"), other), "not gathered");
    other = a;
    other.rotary_heads = 1;
    other.out = floats({7, 6, 1, 2, 1});
    expect_refused(run_on(row_of("project"), other), "even");
    other = a;
    other.out = floats({4, 6, 2, 2, 1});
    other.scale_heads = 1;
    expect_refused(run_on(row_of("project"), other), "scale");
    other = a;
    other.gather = true;
    other.x = floats({4, 0, 1});
    expect_refused(run_on(row_of("project"), other), "from none");
}

TEST_F(OpsTest, AttentionWithoutKeysNeedsANullKey) {
    Attention a{floats({8, 3, 1, 1, 1}), floats({8, 0, 1, 1, 1}), floats({8, 0, 1, 1, 1}), one_u8(3), zero_f32(3), zero_f32(3), 1, false, floats({8, 3, 1, 1, 1})};
    expect_refused(run_on(row_of("attention"), a), "no keys");
    a.has_null = true;
    EXPECT_TRUE(run_on(row_of("attention"), a));
    EXPECT_EQ(launches, 1);
}

TEST_F(OpsTest, LocalWindowsMustMakeSense) {
    LocalAttention a;
    a.q = a.k = a.v = a.out = floats({8, 6, 1, 1});
    a.mask = one_u8(2);
    a.q_cos = a.q_sin = a.k_cos = a.k_sin = zero_f32(2);
    a.q_gain = a.k_gain = zero_f32(1);
    a.bias = a.gate = zero_f32(3);
    a.window = 4;
    EXPECT_TRUE(run_on(row_of("local_attention"), a)) << run_on(row_of("local_attention"), a).message();
    a.window = 0;
    expect_refused(run_on(row_of("local_attention"), a), "window 0");
    a.window = 1 << 30;
    expect_refused(run_on(row_of("local_attention"), a), "window");
}

TEST_F(OpsTest, EmptyOutputsNeedNoKernel) {
    EXPECT_TRUE(run_on(row_of("row_statistics"), RowStatistics{floats({4, 0, 1}), floats({0, 3, 1})}));
    EXPECT_TRUE(run_on(row_of("rotary_table"), RotaryTable{floats({4, 0}), floats({4, 0}), floats({4, 0})}));
    EXPECT_EQ(launches, 0);
}

TEST_F(OpsTest, ProblemsNameWhatRowsDependOn) {
    LocalAttention a;
    a.q = floats({64, 100, 2, 1});
    a.window = 16;
    const Problem plain = problem(a);
    EXPECT_EQ(*plain.find("slots"), 48);
    EXPECT_EQ(*plain.find("plain"), 1);
    EXPECT_EQ(*plain.find("exact"), 0);
    EXPECT_EQ(*plain.find("masked"), 0);
    EXPECT_EQ(*plain.find("turned"), 0);
    a.exact = a.has_mask = a.turned = true;
    EXPECT_EQ(*problem(a).find("exact"), 1);
    EXPECT_EQ(*problem(a).find("masked"), 1);
    EXPECT_EQ(*problem(a).find("turned"), 1);
    a.has_gate = true;
    EXPECT_EQ(*problem(a).find("plain"), 0);
    Project p;
    p.x = floats({4, 6, 1});
    p.out = floats({64, 6, 2, 1, 1});
    EXPECT_EQ(*problem(p).find("plain"), 1);
    EXPECT_EQ(*problem(p).find("dim_out"), 128);
    p.activation = Activation::gelu;
    EXPECT_EQ(*problem(p).find("plain"), 0);
}

}  // namespace

}  // namespace moa::ops
