#include "tests/unit/safetensors_file.h"

#include <array>
#include <string>
#include <sys/stat.h>
#include <vector>

namespace moa {

namespace {

namespace fs = std::filesystem;

class SafeTensorsTest : public SafeTensorsFile {};

TEST_F(SafeTensorsTest, WhatIsWrittenIsRead) {
    std::array<float, 6> floats{1, 2, 3, 4, 5, 6};
    std::array<uint8_t, 3> bytes{1, 0, 1};
    std::array<int64_t, 2> longs{-1, int64_t{1} << 40};
    std::array<uint16_t, 4> halves{0x3c00, 0xfc00, 1, 0x7bff};
    std::array<int32_t, 1> ints{-5};
    std::array<double, 2> doubles{0.1, -1e300};
    const TensorMap tensors{{"a.b\"\\", TensorView(floats.data(), DType::f32, {2, 3})},
                            {"double", TensorView(doubles.data(), DType::f64, {2})},
                            {"half", TensorView(halves.data(), DType::f16, {2, 2})},
                            {"int", TensorView(ints.data(), DType::i32, {1})},
                            {"narrow", TensorView(halves.data(), DType::bf16, {4})},
                            {"raw", TensorView(bytes.data(), DType::u8, {3})},
                            {"mask", TensorView(bytes.data(), DType::boolean, {3})},
                            {"n", TensorView(longs.data(), DType::i64, {2, 1})},
                            {"none", TensorView(static_cast<void *>(nullptr), DType::bf16, {4, 0})},
                            {"scalar", TensorView(floats.data() + 5, DType::f32, {})}};
    const Status written = write_safetensors(path_, tensors, {{"case", "{\"x\": 1}"}});
    ASSERT_TRUE(written) << written.message();
    EXPECT_EQ(files(), 1u);
    const Result<SafeTensors> file = SafeTensors::open(path_);
    ASSERT_TRUE(file) << file.status().message();
    EXPECT_EQ(file->metadata().at("case"), "{\"x\": 1}");
    ASSERT_EQ(file->tensors().size(), tensors.size());
    for (const auto &[name, want] : tensors) {
        const TensorView &got = file->tensors().at(name);
        EXPECT_EQ(got.describe(), want.describe());
        EXPECT_EQ(reinterpret_cast<uintptr_t>(got.data) % size_bytes(got.dtype), 0u);
        EXPECT_EQ(std::memcmp(got.data, want.elements() == 0 ? got.data : want.data, static_cast<size_t>(want.elements()) * size_bytes(want.dtype)), 0);
    }
}

TEST_F(SafeTensorsTest, StridesAreWrittenOut) {
    std::vector<float> data(size_t{300} * 200);
    for (size_t i = 0; i < data.size(); i++) {
        data[i] = static_cast<float>(i);
    }
    TensorView turned(data.data(), DType::f32, {200, 300});
    turned.strides = {1, 200};
    TensorView spread(data.data(), DType::f32, {3, 4});
    spread.strides[0] = 0;
    ASSERT_TRUE(write_safetensors(path_, {{"turned", turned}, {"spread", spread}}));
    const Result<SafeTensors> file = SafeTensors::open(path_);
    ASSERT_TRUE(file) << file.status().message();
    const auto *got = static_cast<const float *>(file->tensors().at("turned").data);
    for (int row = 0; row < 200; row++) {
        for (int column = 0; column < 300; column++) {
            ASSERT_EQ(got[row * 300 + column], static_cast<float>(column * 200 + row));
        }
    }
    EXPECT_EQ(static_cast<const float *>(file->tensors().at("spread").data)[7], 3);
}

TEST_F(SafeTensorsTest, PrefixesAreStripped) {
    float value = 3;
    const TensorView view(&value, DType::f32, {1});
    ASSERT_TRUE(write_safetensors(path_, {{"w.a", view}, {"w.b.c", view}, {"x", view}, {"w", view}}));
    const Result<SafeTensors> file = SafeTensors::open(path_);
    ASSERT_TRUE(file);
    const TensorMap weights = file->tensors("w.");
    ASSERT_EQ(weights.size(), 2u);
    EXPECT_TRUE(weights.contains("a"));
    EXPECT_TRUE(weights.contains("b.c"));
}

TEST_F(SafeTensorsTest, CopiesOfTheObjectKeepTheTensors) {
    float value = 3;
    ASSERT_TRUE(write_safetensors(path_, {{"a", TensorView(&value, DType::f32, {1})}}));
    TensorMap tensors;
    std::vector<SafeTensors> kept;
    {
        const Result<SafeTensors> file = SafeTensors::open(path_);
        ASSERT_TRUE(file);
        tensors = file->tensors();
        kept.push_back(*file);
    }
    EXPECT_EQ(*static_cast<const float *>(tensors.at("a").data), 3);
}

TEST_F(SafeTensorsTest, MisalignedDataIsMoved) {
    write("{" + tensor("a", "U8", "[1]", "[0,1]") + "," + tensor("b", "F32", "[2]", "[1,9]") + "}", 9);
    const Result<SafeTensors> file = SafeTensors::open(path_);
    ASSERT_TRUE(file) << file.status().message();
    const TensorView &b = file->tensors().at("b");
    EXPECT_EQ(reinterpret_cast<uintptr_t>(b.data) % 4, 0u);
    EXPECT_EQ(static_cast<const uint8_t *>(b.data)[7], 1);
}

TEST_F(SafeTensorsTest, FilesThatCannotBeRead) {
    EXPECT_HAS(refusal(Code::not_found), "No such file");
    path_ = folder_;
    refusal(Code::io_error);
    path_ = folder_ / "pipe";
    ASSERT_EQ(::mkfifo(path_.c_str(), 0600), 0);
    EXPECT_HAS(refusal(Code::io_error), "not a regular file");
}

TEST_F(SafeTensorsTest, NothingIsLeftOfAFailedWrite) {
    float value = 1;
    const TensorView good(&value, DType::f32, {1});
    TensorView huge(&value, DType::f32, {int64_t{1} << 40, int64_t{1} << 40});
    huge.strides = {0, 0};
    TensorView negative = good;
    negative.shape[0] = -1;
    TensorView elsewhere = good;
    elsewhere.device.type = DeviceType::cuda;
    for (const TensorView &bad : {huge, negative, elsewhere, TensorView(static_cast<void *>(nullptr), DType::f32, {1}), TensorView(&value, DType::f32, {1, 1, 1, 1, 1, 1, 1}), TensorView(&value, static_cast<DType>(99), {1})}) {
        const Status status = write_safetensors(path_, {{"good", good}, {"the_bad_one", bad}});
        EXPECT_EQ(status.code(), Code::invalid_argument);
        EXPECT_HAS(status.message(), "the_bad_one");
    }
    EXPECT_EQ(write_safetensors(path_, {{"\xff", good}}).code(), Code::invalid_argument);
    EXPECT_EQ(write_safetensors(path_, {{"__metadata__", good}}).code(), Code::invalid_argument);
    EXPECT_EQ(files(), 0u);
    EXPECT_EQ(write_safetensors(folder_ / "missing" / "file", {{"good", good}}).code(), Code::io_error);
    EXPECT_EQ(write_safetensors(folder_, {{"good", good}}).code(), Code::io_error);
    EXPECT_EQ(files(), 0u);
    EXPECT_EQ(write_safetensors("/dev/null", {{"good", good}}).code(), Code::io_error);
    EXPECT_TRUE(fs::is_character_file("/dev/null"));
}

TEST_F(SafeTensorsTest, WritingReplacesTheOldFile) {
    float value = 1;
    write_raw("old");
    ASSERT_TRUE(write_safetensors(path_, {{"a", TensorView(&value, DType::f32, {1})}}));
    EXPECT_EQ(files(), 1u);
    EXPECT_TRUE(SafeTensors::open(path_));
}

}  // namespace

}  // namespace moa
