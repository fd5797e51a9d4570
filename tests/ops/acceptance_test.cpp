#include "runtime/select.h"
#include "workloads/workload.h"

#include <algorithm>
#include <cstddef>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <memory>
#include <string>
#include <vector>

// What rows accept, and what their kernels demand: a row whose conditions a problem meets must take its arguments. Kernels check
// these before they do anything, so that a rehearsal needs no device, and rows for GPUs are checked without one.
namespace moa::workloads {
namespace {

DeviceDescription cpu_with_everything() {
    return {.device = {}, .name = "a cpu", .features = ~CpuFeatures{0}, .cores = 1};
}

DeviceDescription gpu(std::string name, int capability, int shared_kib) {
    return {.device = {DeviceType::cuda, 0}, .name = std::move(name), .cores = 100, .capability = capability, .shared_bytes = shared_kib * 1024};
}

std::vector<DeviceDescription> machines() {
    return {cpu_with_everything(), gpu("an H200", 90, 227), gpu("an A100", 80, 163), gpu("an RTX", 89, 99)};
}

struct Found {
    int rehearsals = 0;
};

void rehearse(Instance &instance, const Problem &problem, const std::string &text, const DeviceDescription &device, Found &found) {
    instance.poison();
    const std::vector<std::byte> before = instance.output_bytes();
    for (const Row &row : built_rows()) {
        if (row.op != problem.op || !refusal(row, problem, device).empty()) {
            continue;
        }
        const Status prepared = instance.prepare(row);
        ASSERT_TRUE(prepared.ok()) << prepared.message();
        Run run = Run::rehearsal(device);
        const Status status = instance.run(run, row);
        EXPECT_TRUE(status.ok()) << text << " (" << problem.describe() << ") on " << device.name << ": " << status.message();
        found.rehearsals++;
    }
    EXPECT_TRUE(instance.output_bytes() == before) << text << ": a rehearsal on " << device.name << " has written";
}

Found rehearse_shapes(const Workload &workload, const std::vector<std::string> &shapes) {
    Found found;
    for (const DType dtype : workload.dtypes()) {
        for (const std::string &shape : shapes) {
            auto made = workload.make({.op = std::string(workload.name()), .dtype = dtype, .shape = shape});
            if (!made.ok()) {
                ADD_FAILURE() << shape << ": " << made.status().message();
                continue;
            }
            Problem problem = (*made)->problem();
            for (const Precision precision : {Precision::exact, Precision::tf32}) {
                problem.precision = precision;
                for (const DeviceDescription &device : machines()) {
                    if (precision == Precision::exact || (dtype == DType::f32 && device.device.type == DeviceType::cuda)) {
                        rehearse(**made, problem, shape, device, found);
                    }
                }
            }
        }
    }
    return found;
}

bool is_built(std::string_view op) {
    const auto rows = built_rows();
    return std::any_of(rows.begin(), rows.end(), [&](const Row &row) { return row.op == op; });
}

class Acceptance : public testing::TestWithParam<const Workload *> {};

TEST_P(Acceptance, RowsTakeTheShapesOfTheWorkload) {
    if (!is_built(GetParam()->name())) {
        GTEST_SKIP() << "this build has no rows of " << GetParam()->name();
    }
    std::vector<std::string> shapes;
    for (const Intent intent : {Intent::smoke, Intent::regular, Intent::irregular}) {
        const auto some = GetParam()->shapes(intent);
        shapes.insert(shapes.end(), some.begin(), some.end());
    }
    EXPECT_GT(rehearse_shapes(*GetParam(), shapes).rehearsals, 0);
}

std::string name_of(const testing::TestParamInfo<const Workload *> &info) {
    return std::string(info.param->name());
}

INSTANTIATE_TEST_SUITE_P(Operations, Acceptance, testing::ValuesIn(all_workloads().begin(), all_workloads().end()), name_of);

int64_t drawn(Random &random, int64_t low, int64_t high) {
    return std::clamp(static_cast<int64_t>(std::exp(std::log(static_cast<double>(low)) + random.uniform() * std::log(static_cast<double>(high + 1) / static_cast<double>(low)))), low, high);
}

constexpr int kDrawn = 60;

void expect_taken(std::string_view op, const std::vector<std::string> &shapes) {
    if (!is_built(op)) {
        GTEST_SKIP() << "this build has no rows of " << op;
    }
    EXPECT_GT(rehearse_shapes(*find_workload(op), shapes).rehearsals, 0);
}

// Paddings and shifts of 8 elements keep 16 bytes aligned in every dtype; those of 1 to 4 do in some, or in none.
std::string layout(Random &random) {
    constexpr int64_t kSome[] = {0, 0, 0, 8, 4, 2, 1};
    return fmt::format("_pad{}_shift{}", kSome[random.below(7)], kSome[random.below(7)]);
}

TEST(RandomAcceptance, Project) {
    Random random(1);
    // Multiples of 4 that are none of 8: in f32 they lie at multiples of 16 bytes.
    std::vector<std::string> shapes{"rows20_in100_dim100", "rows20_in4_dim12_heads1", "rows20_in64_dim100_heads1_e2"};
    for (int i = 0; i < kDrawn; i++) {
        const int64_t dim = random.chance(0.5) ? 4 * drawn(random, 1, 80) : drawn(random, 1, 300);
        const int64_t heads = random.chance(0.6) ? 1 : drawn(random, 1, 8), rotary = dim % 2 == 0 && random.chance(0.3) ? drawn(random, 1, heads) : 0;
        shapes.push_back(fmt::format("rows{}_in{}_heads{}_dim{}_e{}{}{}{}", drawn(random, 1, 300), drawn(random, 1, 300), heads, dim, drawn(random, 1, 3),
                                     rotary > 0 ? fmt::format("_rotary{}", rotary) : "", random.chance(0.3) && rotary == 0 ? "_gelu" : "", layout(random)));
    }
    expect_taken("project", shapes);
}

TEST(RandomAcceptance, Attention) {
    Random random(2);
    std::vector<std::string> shapes;
    for (int i = 0; i < kDrawn; i++) {
        shapes.push_back(fmt::format("q{}_k{}_d{}_h{}{}{}", drawn(random, 1, 300), drawn(random, 1, 300), random.chance(0.5) ? 32 << random.below(3) : drawn(random, 1, 256),
                                     drawn(random, 1, 4), random.chance(0.3) ? "_swap" : "", layout(random)));
    }
    expect_taken("attention", shapes);
}

TEST(RandomAcceptance, LocalAttention) {
    Random random(3);
    std::vector<std::string> shapes;
    for (int i = 0; i < kDrawn; i++) {
        shapes.push_back(fmt::format("n{}_w{}_d{}_h{}{}{}{}{}", drawn(random, 1, 300), random.chance(0.5) ? 64 << random.below(2) : drawn(random, 1, 128),
                                     random.chance(0.5) ? 32 << random.below(3) : drawn(random, 1, 256), drawn(random, 1, 4), random.chance(0.5) ? "_fwd_exact_turned" : "_causal",
                                     random.chance(0.3) ? "_mask1" : "", random.chance(0.3) ? "_swap" : "", layout(random)));
    }
    expect_taken("local_attention", shapes);
}

// A grid has 65535 blocks along its last two axes.
TEST(Rehearsal, RefusesGridsThatNoGpuHas) {
    const DeviceDescription device = gpu("an H200", 90, 227);
    auto made = find_workload("attention")->make({.op = "attention", .dtype = DType::f32, .shape = "q1_k1_d32_b65536"});
    ASSERT_TRUE(made.ok()) << made.status().message();
    int refused = 0;
    for (const Row &row : built_rows()) {
        if (row.dtype == "tf32" && row.op == "attention") {
            Problem problem = (*made)->problem();
            problem.precision = Precision::tf32;
            moa::Run run = moa::Run::rehearsal(device);
            if (refusal(row, problem, device).empty()) {
                const Status status = (*made)->run(run, row);
                EXPECT_NE(status.message().find("65536 blocks"), std::string::npos) << status.message();
                refused++;
            }
        }
    }
    if (refused == 0) {
        GTEST_SKIP() << "this build has no rows of tf32";
    }
}

}  // namespace
}  // namespace moa::workloads
