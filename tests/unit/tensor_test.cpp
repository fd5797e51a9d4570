#include "moa/device.h"
#include "moa/status.h"
#include "moa/tensor.h"

#include <gtest/gtest.h>

#include <array>
#include <limits>
#include <sched.h>
#include <string>

namespace moa {

namespace {

TEST(Status, CarriesCodeAndMessage) {
    const Status fine;
    EXPECT_TRUE(fine);
    EXPECT_TRUE(fine.message().empty());
    const Status bad(Code::invalid_argument, "k is 7, of 5 positions");
    EXPECT_FALSE(bad.ok());
    EXPECT_EQ(bad.code(), Code::invalid_argument);
    EXPECT_EQ(bad.message(), "k is 7, of 5 positions");
    EXPECT_EQ(name_of(bad.code()), "invalid argument");
}

TEST(Status, ResultHoldsAValueOrTheReason) {
    const Result<std::string> value(std::string("text"));
    ASSERT_TRUE(value);
    EXPECT_EQ(*value, "text");
    EXPECT_EQ(value->size(), 4u);
    const Result<std::string> none(Status(Code::not_found, "nowhere"));
    EXPECT_FALSE(none);
    EXPECT_EQ(none.status().code(), Code::not_found);
}

TEST(TensorView, ContiguousStridesFollowTheShape) {
    std::array<float, 24> data{};
    const TensorView view(data.data(), DType::f32, {2, 3, 4});
    EXPECT_EQ(view.rank, 3);
    EXPECT_EQ(view.strides[0], 12);
    EXPECT_EQ(view.strides[1], 4);
    EXPECT_EQ(view.strides[2], 1);
    EXPECT_EQ(view.elements(), 24);
    EXPECT_TRUE(view.contiguous());
    EXPECT_EQ(view.describe(), "f32 [2, 3, 4] on cpu");
}

TEST(TensorView, DescribesForeignStrides) {
    std::array<float, 24> data{};
    TensorView view(data.data(), DType::f32, {2, 3});
    view.strides = {1, 2};
    EXPECT_FALSE(view.contiguous());
    EXPECT_EQ(view.describe(), "f32 [2, 3] on cpu with strides [1, 2]");
    view.device = {DeviceType::cuda, 1};
    EXPECT_NE(view.describe().find("cuda:1"), std::string::npos);
}

TEST(TensorView, AxesOfOneElementMayHaveAnyStride) {
    std::array<float, 4> data{};
    TensorView view(data.data(), DType::f32, {1, 4});
    view.strides[0] = 77;
    EXPECT_TRUE(view.contiguous());
}

TEST(TensorView, EmptyAndHugeShapesAreCountedWithoutOverflow) {
    float value = 0;
    EXPECT_EQ(TensorView(&value, DType::f32, {3, 0, 5}).elements(), 0);
    EXPECT_EQ(TensorView(&value, DType::f32, {}).elements(), 1);
    const int64_t huge = int64_t{1} << 40;
    EXPECT_EQ(TensorView(&value, DType::f32, {huge, huge}).elements(), std::numeric_limits<int64_t>::max());
    EXPECT_EQ(TensorView(&value, DType::f32, {huge, huge, 0}).elements(), 0);
    EXPECT_TRUE(TensorView(&value, DType::f32, {huge, huge}).contiguous());
    EXPECT_TRUE(TensorView(&value, DType::f32, {3, 0, 5}).contiguous());
}

TEST(TensorView, TooManyAxesGiveAnEmptyView) {
    float value = 0;
    const TensorView view(&value, DType::f32, {1, 1, 1, 1, 1, 1, 1});
    EXPECT_EQ(view.rank, -1);
    EXPECT_TRUE(view.empty());
    EXPECT_FALSE(view.describe().empty());
}

TEST(DType, NamesSizesAndDlpackCodes) {
    EXPECT_EQ(name_of(DType::bf16), "bf16");
    EXPECT_EQ(size_bytes(DType::bf16), 2u);
    EXPECT_EQ(dlpack_code(DType::bf16), 4);
    EXPECT_EQ(dlpack_code(DType::f64), 2);
    EXPECT_EQ(dlpack_code(DType::i64), 0);
    EXPECT_EQ(dlpack_code(DType::u8), 1);
    EXPECT_EQ(dlpack_code(DType::boolean), 6);
    EXPECT_EQ(size_bytes(DType::boolean), 1u);
}

TEST(Device, HostIsDescribed) {
    const DeviceDescription host = describe_host();
    EXPECT_EQ(host.device, Device{});
    EXPECT_FALSE(host.name.empty());
    EXPECT_GE(host.cores, 1);
    if ((host.features & bit(CpuFeature::avx512f)) != 0) {
        EXPECT_NE(host.features & bit(CpuFeature::avx2), 0u);
    }
}

TEST(Device, CoresAreThoseThatTheProcessMayUse) {
    cpu_set_t all, one;
    ASSERT_EQ(sched_getaffinity(0, sizeof all, &all), 0);
    CPU_ZERO(&one);
    for (int cpu = 0; cpu < CPU_SETSIZE && CPU_COUNT(&one) == 0; cpu++) {
        if (CPU_ISSET(cpu, &all)) {
            CPU_SET(cpu, &one);
        }
    }
    ASSERT_EQ(sched_setaffinity(0, sizeof one, &one), 0);
    const int cores = describe_host().cores;
    ASSERT_EQ(sched_setaffinity(0, sizeof all, &all), 0);
    EXPECT_EQ(cores, 1);
    EXPECT_EQ(describe_host().cores, CPU_COUNT(&all));
}

TEST(Device, FeaturesHaveNames) {
    EXPECT_EQ(name_of(CpuFeature::sse41), "sse41");
    EXPECT_EQ(name_of(CpuFeature::avx512bf16), "avx512bf16");
    EXPECT_EQ(name_of(CpuFeature::count), "unknown");
}

}  // namespace

}  // namespace moa
