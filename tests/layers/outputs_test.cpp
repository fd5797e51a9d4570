#include "tests/layers/any_arguments.h"
#include "tests/layers/every_layer.h"
#include "tests/test_device.h"

#include <gtest/gtest.h>

// Every layer writes each element of each output, and what it writes does not depend on what the memory held.
namespace moa::tests {
namespace {

class Outputs : public testing::TestWithParam<std::tuple<size_t, DType>> {};

void expect_written(const Plan &plan, AnyArguments &arguments) {
    for (const Plan::Argument &argument : plan.arguments()) {
        const TensorView tensor = arguments[argument.name];
        const size_t size = size_bytes(tensor.dtype);
        for (int64_t i = 0; argument.output && i < tensor.elements(); i++) {
            const auto *element = static_cast<const uint8_t *>(tensor.data) + static_cast<size_t>(i) * size;
            const bool poison = std::all_of(element, element + size, [](uint8_t byte) { return byte == 0xff; });
            ASSERT_FALSE(poison) << argument.name << " element " << i << " was not written";
            ASSERT_TRUE(argument.dtype != DType::boolean || *element <= 1) << argument.name << " element " << i << " is " << int{*element};
        }
    }
}

TEST_P(Outputs, AreWrittenWhole) {
    const auto &[index, dtype] = GetParam();
    PlanOptions options;
    options.device = test_device();
    options.dtype = dtype;
    if (dtype == DType::f16 && !on_gpu()) {
        GTEST_SKIP() << "f16 runs on GPUs";
    }
    const Result<Plan> plan = every_layer()[index].make(options);
    ASSERT_TRUE(plan.ok()) << plan.status().message();
    AnyArguments arguments(*plan);
    arguments.fill_outputs(0xff);
    const Status status = arguments.run(0xff);
    ASSERT_TRUE(status.ok()) << status.message();
    expect_written(*plan, arguments);
    const std::vector<std::byte> first = arguments.outputs();
    arguments.fill_outputs(0x11);
    ASSERT_TRUE(arguments.run(0x11).ok());
    EXPECT_TRUE(arguments.outputs() == first) << "outputs depend on what the memory held";
}

INSTANTIATE_TEST_SUITE_P(Layers, Outputs,
                         testing::Combine(testing::Range(size_t{0}, every_layer().size()), testing::Values(DType::f32, DType::bf16, DType::f16)),
                         [](const auto &tested) { return every_layer()[std::get<0>(tested.param)].name + "_" + std::string(name_of(std::get<1>(tested.param))); });

TEST(RouterOutputs, WhatNoBlockHoldsHasASoftScoreOfZero) {
    const auto found = std::find_if(every_layer().begin(), every_layer().end(), [](const AnyLayer &layer) { return layer.name == "router_blocks"; });
    ASSERT_NE(found, every_layer().end());
    PlanOptions options;
    options.device = test_device();
    const Result<Plan> plan = found->make(options);
    ASSERT_TRUE(plan.ok()) << plan.status().message();
    AnyArguments arguments(*plan);
    ASSERT_TRUE(arguments.run(0xff).ok());
    const auto *soft = static_cast<const float *>(arguments["soft_scores"].data);
    constexpr int64_t kRows = 4, kLength = 26, kBlocks = 24;
    float sum = 0;
    for (int64_t row = 0; row < kRows; row++) {
        for (int64_t n = 0; n < kLength; n++) {
            sum += soft[row * kLength + n];
            EXPECT_TRUE(n < kBlocks || soft[row * kLength + n] == 0) << row << " " << n;
        }
    }
    EXPECT_GT(sum, 1);
}

TEST(RouterOutputs, MasksAreZeroOrOneOfAnyStride) {
    for (const AnyLayer &layer : every_layer()) {
        if (layer.name != "router_unrouted" && layer.name != "router_plain") {
            continue;
        }
        PlanOptions options;
        options.device = test_device();
        const Result<Plan> plan = layer.make(options);
        ASSERT_TRUE(plan.ok()) << plan.status().message();
        AnyArguments arguments(*plan);
        arguments["mask"].strides = {0, 0};  // one byte for all
        *static_cast<uint8_t *>(arguments["mask"].data) = 64;
        ASSERT_TRUE(arguments.run(0xff).ok()) << layer.name;
        const TensorView out = arguments["mask_out"];
        EXPECT_TRUE(std::all_of(static_cast<uint8_t *>(out.data), static_cast<uint8_t *>(out.data) + out.elements(), [](uint8_t byte) { return byte == 1; })) << layer.name;
    }
}

}  // namespace
}  // namespace moa::tests
