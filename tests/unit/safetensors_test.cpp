#include "moa/safetensors.h"

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <sys/stat.h>
#include <vector>

namespace moa {

namespace {

namespace fs = std::filesystem;

class SafeTensorsTest : public testing::Test {
public:
    void SetUp() override {
        folder_ = fs::path(testing::TempDir()) / ("safetensors_" + std::string(testing::UnitTest::GetInstance()->current_test_info()->name()));
        fs::remove_all(folder_);
        fs::create_directories(folder_);
        path_ = folder_ / "file.safetensors";
    }
    void TearDown() override {
        fs::remove_all(folder_);
    }

protected:
    void write_raw(const std::string &bytes) const {
        std::ofstream(path_, std::ios::binary) << bytes;
    }
    void write(const std::string &header, size_t data_bytes) const {
        write(header.size(), header + std::string(data_bytes, '\1'));
    }
    void write(uint64_t header_bytes, const std::string &rest) const {
        std::string bytes(8, '\0');
        std::memcpy(bytes.data(), &header_bytes, 8);
        write_raw(bytes + rest);
    }
    // The message, which names the file and says what is wrong with it.
    std::string refusal(Code code = Code::invalid_argument) const {
        const Result<SafeTensors> file = SafeTensors::open(path_);
        EXPECT_FALSE(file.ok());
        if (file.ok()) {
            return "";
        }
        EXPECT_EQ(file.status().code(), code) << file.status().message();
        EXPECT_EQ(file.status().message().rfind(path_.string(), 0), 0u) << file.status().message();
        EXPECT_LT(file.status().message().size(), 1500u);
        return file.status().message();
    }
    std::string refusal_of(const std::string &header, size_t data_bytes, Code code = Code::invalid_argument) const {
        write(header, data_bytes);
        return refusal(code);
    }
    size_t files() const {
        return static_cast<size_t>(std::distance(fs::directory_iterator(folder_), fs::directory_iterator()));
    }

    fs::path folder_, path_;
};

std::string tensor(const std::string &name, const std::string &dtype, const std::string &shape, const std::string &offsets) {
    return "\"" + name + R"(":{"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}";
}

#define EXPECT_HAS(text, part) EXPECT_NE((text).find(part), std::string::npos) << (text)

TEST_F(SafeTensorsTest, WhatIsWrittenIsRead) {
    std::array<float, 6> floats{1, 2, 3, 4, 5, 6};
    std::array<uint8_t, 3> bytes{1, 0, 1};
    std::array<int64_t, 2> longs{-1, int64_t{1} << 40};
    const TensorMap tensors{{"a.b\"\\", TensorView(floats.data(), DType::f32, {2, 3})},
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

TEST_F(SafeTensorsTest, FilesThatAreSomethingElse) {
    write_raw("");
    EXPECT_HAS(refusal(), "0 bytes");
    write_raw("PK\3\4");
    refusal();
    write_raw("This is a plain text, and long enough to hold a length.");
    EXPECT_HAS(refusal(), "no safetensors file");
    write(2, "[]");
    EXPECT_HAS(refusal(), "begin with {");
    write(0, "{}");
    refusal();
    write(3, " {}");
    EXPECT_HAS(refusal(), "begin with {");
}

TEST_F(SafeTensorsTest, EmptyFilesOfTheFormatAreFine) {
    write("{}", 0);
    const Result<SafeTensors> file = SafeTensors::open(path_);
    ASSERT_TRUE(file) << file.status().message();
    EXPECT_TRUE(file->tensors().empty());
    write("{}        ", 0);
    EXPECT_TRUE(SafeTensors::open(path_));
}

TEST_F(SafeTensorsTest, HeadersThatClaimTooMuch) {
    for (const uint64_t claim : {uint64_t{3}, uint64_t{100'000'001}, uint64_t{1} << 32, ~uint64_t{0}, ~uint64_t{0} - 7}) {
        write(claim, "{}");
        EXPECT_HAS(refusal(), std::to_string(claim));
    }
}

TEST_F(SafeTensorsTest, EveryTruncationIsRefused) {
    std::array<float, 8> data{};
    ASSERT_TRUE(write_safetensors(path_, {{"a", TensorView(data.data(), DType::f32, {4})}, {"b", TensorView(data.data(), DType::f32, {2, 4})}}));
    std::ifstream stream(path_, std::ios::binary);
    const std::string whole((std::istreambuf_iterator<char>(stream)), std::istreambuf_iterator<char>());
    for (size_t length = 0; length < whole.size(); length++) {
        write_raw(whole.substr(0, length));
        refusal();
    }
    write_raw(whole + "x");
    EXPECT_HAS(refusal(), "the tensors end at 48, the data of the file at 49");
}

TEST_F(SafeTensorsTest, OverlapsAndHoles) {
    const std::string a = tensor("a", "F32", "[2]", "[0,8]");
    EXPECT_HAS(refusal_of("{" + a + "," + tensor("b", "F32", "[2]", "[4,12]") + "}", 12), "overlap");
    EXPECT_HAS(refusal_of("{" + a + "," + tensor("b", "F32", "[2]", "[0,8]") + "}", 8), "overlap");
    EXPECT_HAS(refusal_of("{" + a + "," + tensor("b", "F32", "[1]", "[12,16]") + "}", 16), "hole");
    EXPECT_HAS(refusal_of("{" + tensor("b", "F32", "[1]", "[4,8]") + "}", 8), "hole");
    refusal_of("{" + a + "}", 12);
    refusal_of("{}", 1);
}

TEST_F(SafeTensorsTest, OffsetsThatDoNotFit) {
    const auto refused = [&](const std::string &shape, const std::string &offsets) { return refusal_of("{" + tensor("weight", "F32", shape, offsets) + "}", 8); };
    EXPECT_HAS(refused("[2]", "[0,12]"), "[0, 12]");
    EXPECT_HAS(refused("[3]", "[0,8]"), "12 bytes");
    EXPECT_HAS(refused("[2]", "[8,0]"), "weight");
    refused("[2]", "[0,18446744073709551615]");
    refused("[2]", "[18446744073709551608,0]");
    refused("[2]", "[0,18446744073709551616]");
    refused("[2]", "[-8,0]");
    refused("[2]", "[0,8.0]");
    refused("[2]", "[0]");
    refused("[2]", "[]");
    refused("[2]", "[0,8,8]");
    refused("[2]", "[[0,8]]");
    refused("[2]", "\"0,8\"");
}

TEST_F(SafeTensorsTest, ShapesThatOverflow) {
    const auto refused = [&](const std::string &shape) { return refusal_of("{" + tensor("weight", "F32", shape, "[0,0]") + "}", 0); };
    EXPECT_HAS(refused("[4294967296,4294967296]"), "larger than any memory");
    EXPECT_HAS(refused("[4611686018427387904]"), "weight");
    refused("[9223372036854775807,9223372036854775807,0]");
    refused("[9223372036854775808]");
    refused("[1e3]");
    refused("[-1]");
    refused("[\"1\"]");
    refused("[[1]]");
    refused("[true]");
    refused("7");
    EXPECT_HAS(refused("[1,1,1,1,1,1,1]"), "more than 6 axes");
}

TEST_F(SafeTensorsTest, EntriesThatAreMalformed) {
    const auto refused = [&](const std::string &entry) { return refusal_of("{\"weight\":" + entry + "}", 0); };
    for (const char *entry : {"7", "null", "[]", "\"F32\"", "{}", "true", R"({"dtype":"F32","shape":[0]})", R"({"dtype":"F32","data_offsets":[0,0]})",
                              R"({"dtype":"F32","shape":[0],"data_offsets":[0,0],"extra":1})", R"({"dtype":"F32","dtype":"F32","shape":[0],"data_offsets":[0,0]})",
                              R"({"dtype":"F32","shape":[0],"shape":[0],"data_offsets":[0,0]})", R"({"dtype":["F32"],"shape":[0],"data_offsets":[0,0]})",
                              R"({"dtype":7,"shape":[0],"data_offsets":[0,0]})"}) {
        EXPECT_HAS(refused(entry), "weight");
    }
}

TEST_F(SafeTensorsTest, DtypesThatAreUnknown) {
    for (const char *dtype : {"F16", "F8_E4M3", "f32", "", "FLOAT"}) {
        EXPECT_HAS(refusal_of("{" + tensor("weight", dtype, "[0]", "[0,0]") + "}", 0, Code::unsupported), "not one of F32");
    }
}

TEST_F(SafeTensorsTest, NamesThatAreThereTwice) {
    const std::string a = tensor("a", "F32", "[0]", "[0,0]");
    EXPECT_HAS(refusal_of("{" + a + "," + tensor("\\u0061", "F32", "[0]", "[0,0]") + "}", 0), "tensor a is there twice");
    EXPECT_HAS(refusal_of(R"({"__metadata__":{},"__metadata__":{}})", 0), "twice");
    EXPECT_HAS(refusal_of(R"({"__metadata__":{"k":"1","k":"2"}})", 0), "twice");
}

TEST_F(SafeTensorsTest, MetadataMustBeStrings) {
    for (const char *metadata : {"7", "[]", "\"x\"", R"({"k":1})", R"({"k":{}})", R"({"k":["x"]})", R"({"k":null})"}) {
        EXPECT_HAS(refusal_of(std::string("{\"__metadata__\":") + metadata + "}", 0), "__metadata__");
    }
}

TEST_F(SafeTensorsTest, TextThatIsNotJson) {
    for (const char *header : {"{", "{\"a\"", "{]", "{}{}", "{} x", "{\"a\":1e999}", "{\"\xff\":{}}", "{'a':{}}", "{\"a\" {}}"}) {
        refusal_of(header, 0);
    }
    refusal_of(std::string("{\"a\0b\"}", 7), 0);
}

TEST_F(SafeTensorsTest, DeepNestingAndLongLists) {
    constexpr size_t kDepth = 5'000'000;
    refusal_of("{\"a\":" + std::string(kDepth, '['), 0);
    std::string objects = "{";
    for (size_t i = 0; i < kDepth / 5; i++) {
        objects += "\"a\":{";
    }
    refusal_of(objects, 0);
    std::string ones = "{\"a\":{\"dtype\":\"F32\",\"shape\":[1";
    for (size_t i = 0; i < kDepth; i++) {
        ones += ",1";
    }
    refusal_of(ones, 0);
    EXPECT_HAS(refusal_of("{\"" + std::string(kDepth, 'n') + "\":7}", 0), "nnn...");
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
    for (const TensorView &bad : {huge, negative, elsewhere, TensorView(static_cast<void *>(nullptr), DType::f32, {1}), TensorView(&value, DType::f32, {1, 1, 1, 1, 1, 1, 1})}) {
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
