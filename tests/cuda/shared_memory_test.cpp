#include "moa/rows.h"
#include "tests/cuda/fake_driver.h"
#include "tests/ops/row_tests.h"
#include "workloads/gpu.h"

#include <algorithm>
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <map>
#include <string>

// What rows state as the shared memory of a block, against what their launches ask for, with the driver of fake_driver.cpp in
// the place of NVIDIA's. Where the number follows from sizes, the shapes of the workload reach the largest that a row takes.
namespace moa::workloads {
namespace {

constexpr Device kGpu{DeviceType::cuda, 0};
constexpr int kUnasked = 48 * 1024;  // every GPU gives a block that much

tests::FakeDriver *fake() {
    void *library = dlopen("libcuda.so.1", RTLD_NOW);
    auto *get = library == nullptr ? nullptr : reinterpret_cast<tests::FakeDriver *(*)()>(dlsym(library, "moa_fake_driver"));
    return get == nullptr ? nullptr : get();
}

// The most that a launch of a row asked for, over the shapes that it took.
using Asked = std::map<const Row *, int>;

void launch_all(const Case &wanted, const Workload &workload, Asked &asked) {
    const auto made = workload.make(wanted);
    ASSERT_TRUE(made.ok()) << made.status().message();
    Instance &instance = **made;
    for (const Row &row : built_rows()) {
        if (row.device != DeviceType::cuda || row.op != wanted.op || precision_of(row) != wanted.precision || !accepts(row, instance.problem())) {
            continue;
        }
        ASSERT_TRUE(instance.prepare(row).ok());
        fake()->largest_shared = 0;
        const Result<GpuInstance> gpu = GpuInstance::make(kGpu, instance, row);
        ASSERT_TRUE(gpu.ok()) << row.name << " " << wanted.shape << ": " << gpu.status().message();
        const Status launched = gpu->launch();
        ASSERT_TRUE(launched.ok()) << row.name << " " << wanted.shape << ": " << launched.message();
        EXPECT_LE(fake()->largest_shared, std::max(row.shared_bytes, kUnasked)) << row.name << " states " << row.shared_bytes << " and asks for more at " << wanted.shape;
        asked[&row] = std::max(asked[&row], fake()->largest_shared);
    }
}

class SharedMemory : public testing::TestWithParam<std::string> {};

TEST_P(SharedMemory, IsWhatLaunchesAskFor) {
    if (fake() == nullptr) {
        GTEST_SKIP() << "libcuda.so.1 is another driver";
    }
    Asked asked;
    const Workload &workload = *find_workload(GetParam());
    for (const DType dtype : workload.dtypes()) {
        for (const Precision precision : {Precision::exact, Precision::tf32}) {
            for (const Intent intent : {Intent::smoke, Intent::irregular, Intent::edges}) {
                for (const std::string &shape : workload.shapes(intent)) {
                    if (precision == Precision::exact || dtype == DType::f32) {
                        launch_all({.op = GetParam(), .dtype = dtype, .precision = precision, .shape = shape}, workload, asked);
                    }
                }
            }
        }
    }
    for (const Row &row : built_rows()) {
        if (row.device != DeviceType::cuda || row.op != GetParam()) {
            continue;
        }
        ASSERT_EQ(asked.count(&row), 1U) << row.name << " was not launched";
        EXPECT_TRUE(row.shared_bytes == 0 || row.shared_bytes == asked[&row]) << row.name << " states " << row.shared_bytes << " and asks for " << asked[&row];
    }
}

std::vector<std::string> operations() {
    std::vector<std::string> names;
    for (const std::string_view op : tested_operations()) {
        names.emplace_back(op);
    }
    return names;
}

INSTANTIATE_TEST_SUITE_P(Ops, SharedMemory, testing::ValuesIn(operations()), [](const auto &tested) { return tested.param; });

}  // namespace
}  // namespace moa::workloads
