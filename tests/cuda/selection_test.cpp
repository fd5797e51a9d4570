#include "runtime/ops.h"

#include <algorithm>
#include <gtest/gtest.h>
#include <set>
#include <string>

// Rows for GPUs that are not here: what `select` would take on them.
namespace moa {
namespace {

constexpr int kKiB = 1024;

DeviceDescription gpu(int capability, int shared_kib) {
    return {.device = {DeviceType::cuda, 0}, .name = "a GPU", .cores = 100, .capability = capability, .shared_bytes = shared_kib * kKiB, .memory_bytes = int64_t{80} << 30};
}

const DeviceDescription kGpus[] = {gpu(80, 163), gpu(86, 99), gpu(89, 99), gpu(90, 227), gpu(120, 99)};

bool built_for_gpus(std::string_view op, std::string_view dtype = {}) {
    const auto rows = built_rows();
    return std::any_of(rows.begin(), rows.end(), [&](const Row &row) {
        return row.device == DeviceType::cuda && row.op == op && (dtype.empty() || row.dtype == dtype || row.dtype == "any");
    });
}

// Sizes as layers have them. An operation without any row for GPUs is not part of the build.
std::vector<Problem> problems() {
    std::vector<Problem> all;
    for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
        all.push_back({"router_scores", dtype, {{"positions", 4096}, {"dim_in", 512}, {"routers", 8}, {"batch", 1}}});
        all.push_back({"router_scores", dtype, {{"positions", 33}, {"dim_in", 13}, {"routers", 67}, {"batch", 65535}}});
        all.push_back({"row_statistics", dtype, {{"positions", 4096}, {"dim_in", 512}}});
        all.push_back({"combine", dtype, {{"positions", 4096}, {"dim_out", 512}, {"experts", 4}}});
        all.push_back({"combine", dtype, {{"positions", 5}, {"dim_out", 1}, {"experts", 1}}});
        for (const int64_t head_dim : {1, 8, 32, 33, 48, 64, 80, 128, 160, 216, 217, 256}) {
            for (const int64_t rows : {1, 1000}) {
                all.push_back({"attention", dtype, {{"queries", rows}, {"keys", rows}, {"head_dim", head_dim}, {"heads", 8}, {"aligned", 1}}});
                for (const int64_t rotary : {0, 1}) {
                    const int64_t plain = head_dim % 32 == 0 && rotary == 0 ? 1 : 0;
                    all.push_back({"project", dtype, {{"rows", rows}, {"dim_in", 512}, {"dim_out", 8 * head_dim}, {"head_dim", head_dim}, {"heads", 8}, {"plain", plain}, {"rotary", rotary}, {"activation", 0}, {"aligned", 1}, {"tiles", (rows + 127) / 128 * 4}}});
                }
                all.push_back({"local_attention", dtype, {{"positions", rows}, {"window", 128}, {"slots", 384}, {"head_dim", head_dim}, {"heads", 8}, {"plain", 1}}});
                all.push_back({"local_attention", dtype, {{"positions", rows}, {"window", 128}, {"slots", 384}, {"head_dim", head_dim}, {"heads", 8}, {"plain", 1}, {"exact", 1}, {"masked", 0}, {"turned", 1}, {"aligned", 1}}});
                all.push_back({"local_attention", dtype, {{"positions", rows}, {"window", 7}, {"slots", 14}, {"head_dim", head_dim}, {"heads", 8}, {"plain", 0}}});
            }
        }
    }
    all.push_back({"coordinate_descent", DType::f32, {{"positions", 32768}, {"iterations", 20}}});
    all.push_back({"coordinate_descent_step", DType::f32, {{"positions", 32768}}});
    all.push_back({"coordinate_descent_finish", DType::f32, {{"positions", 32768}}});
    for (const int64_t rank : {0, 1}) {
        all.push_back({"select_tokens", DType::f32, {{"positions", 32768}, {"selected", 4096}, {"rank", rank}}});
        all.push_back({"copy_indices", DType::f32, {{"selected", 4096}, {"narrow", rank}}});
    }
    all.push_back({"route_slots", DType::f32, {{"positions", 4096}, {"selected", 1024}}});
    all.push_back({"rotary_table", DType::f32, {{"positions", 4096}, {"head_dim", 64}}});
    return all;
}

TEST(GpuRows, EveryGpuFindsOneForEveryProblem) {
    std::set<std::string> missing;
    for (Problem problem : problems()) {
        if (!built_for_gpus(problem.op, problem.op == "select_tokens" || problem.dtype == DType::f32 ? std::string_view() : name_of(problem.dtype))) {
            missing.insert(std::string(problem.op) + " " + std::string(name_of(problem.dtype)));
            continue;
        }
        for (const DeviceDescription &device : kGpus) {
            for (const Precision precision : {Precision::exact, Precision::tf32}) {
                problem.precision = precision;
                const Result<Choice> choice = select(problem, device, built_rows());
                EXPECT_TRUE(choice.ok()) << choice.status().message();
                if (choice.ok()) {
                    EXPECT_EQ(choice->row->device, DeviceType::cuda);
                    EXPECT_TRUE(precision == Precision::tf32 || choice->row->dtype != "tf32");
                }
            }
        }
    }
    if (!missing.empty()) {
        std::string names;
        for (const std::string &name : missing) {
            names += (names.empty() ? "" : ", ") + name;
        }
        GTEST_SKIP() << "this build has no rows for GPUs of " << names;
    }
}

// A grid has no more blocks in its third dimension.
TEST(GpuRows, RoutersTakeNoMoreBatchEntriesThanAGrid) {
    if (!built_for_gpus("router_scores", "f32")) {
        GTEST_SKIP() << "this build has no rows for GPUs of router_scores";
    }
    const Problem problem{"router_scores", DType::f32, {{"positions", 33}, {"dim_in", 13}, {"routers", 2}, {"batch", 65536}}};
    const Result<Choice> choice = select(problem, kGpus[0], built_rows());
    ASSERT_FALSE(choice.ok());
    EXPECT_NE(choice.status().message().find("65536"), std::string::npos) << choice.status().message();
}

TEST(GpuRows, AreNoneForTheCpuAndForOlderGpus) {
    const Problem problem{"copy_indices", DType::f32, {{"selected", 4}, {"narrow", 0}}};
    if (!built_for_gpus("copy_indices")) {
        GTEST_SKIP() << "this build has no rows for GPUs";
    }
    const Result<Choice> old = select(problem, gpu(75, 64), built_rows());
    EXPECT_EQ(old.status().code(), Code::unsupported);
    EXPECT_NE(old.status().message().find("needs compute capability 8.0, not 7.5"), std::string::npos) << old.status().message();
    const Result<Choice> host = select(problem, describe_host(), built_rows());
    EXPECT_TRUE(!host.ok() || host->row->device == DeviceType::cpu);
}

TEST(GpuRows, SomeAreForOneCapabilityAlone) {
    const Row exact{.name = "exact", .op = "attention", .schedule = "cuda", .target = "cuda_90a", .dtype = "bf16", .device = DeviceType::cuda, .capability = 90, .exact = true};
    const Problem problem{"attention", DType::bf16, {{"head_dim", 64}}};
    for (const DeviceDescription &device : kGpus) {
        const Result<Choice> choice = select(problem, device, {&exact, 1});
        EXPECT_EQ(choice.ok(), device.capability == 90) << device.capability;
    }
    EXPECT_NE(select(problem, gpu(120, 99), {&exact, 1}).status().message().find("is for compute capability 9.0 alone, not 12.0"), std::string::npos);
}

TEST(GpuRows, SharedMemoryIsChecked) {
    const Row large{.name = "large", .op = "attention", .schedule = "cuda", .target = "cuda_80", .dtype = "bf16", .device = DeviceType::cuda, .capability = 80, .shared_bytes = 128 * kKiB};
    const Problem problem{"attention", DType::bf16, {{"head_dim", 64}}};
    EXPECT_TRUE(select(problem, kGpus[0], {&large, 1}).ok());
    const Result<Choice> refused = select(problem, kGpus[1], {&large, 1});
    EXPECT_NE(refused.status().message().find("131072 bytes of shared memory"), std::string::npos) << refused.status().message();
}

}  // namespace
}  // namespace moa
