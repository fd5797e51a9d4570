#include "tests/unit/safetensors_file.h"

#include <array>
#include <string>
#include <vector>

// Headers, as the reference reader (the package safetensors 0.8.0) takes and refuses them.
namespace moa {

namespace {

namespace fs = std::filesystem;

class SafeTensorsHeader : public SafeTensorsFile {};

TEST_F(SafeTensorsHeader, EmptyFilesOfTheFormatAreFine) {
    write("{}", 0);
    const Result<SafeTensors> file = SafeTensors::open(path_);
    ASSERT_TRUE(file) << file.status().message();
    EXPECT_TRUE(file->tensors().empty());
    write("{}        ", 0);
    EXPECT_TRUE(SafeTensors::open(path_));
    write(2, "[]");
    EXPECT_HAS(refusal(), "begin with {");
    write(0, "{}");
    refusal();
}

TEST_F(SafeTensorsHeader, HeadersThatClaimTooMuch) {
    for (const uint64_t claim : {uint64_t{3}, uint64_t{100'000'001}, uint64_t{1} << 32, ~uint64_t{0}, ~uint64_t{0} - 7}) {
        write(claim, "{}");
        EXPECT_HAS(refusal(), std::to_string(claim));
    }
}

TEST_F(SafeTensorsHeader, EveryTruncationIsRefused) {
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
    write("{" + tensor("a", "F32", "[2]", "[0,8]") + "}", 4);
    EXPECT_HAS(refusal(), "the tensors end at 8, the data of the file at 4: it is cut short");
}

TEST_F(SafeTensorsHeader, OverlapsAndHoles) {
    const std::string a = tensor("a", "F32", "[2]", "[0,8]");
    EXPECT_HAS(refusal_of("{" + a + "," + tensor("b", "F32", "[2]", "[4,12]") + "}", 12), "overlap");
    EXPECT_HAS(refusal_of("{" + a + "," + tensor("b", "F32", "[2]", "[0,8]") + "}", 8), "overlap");
    EXPECT_HAS(refusal_of("{" + a + "," + tensor("b", "F32", "[1]", "[12,16]") + "}", 16), "hole");
    EXPECT_HAS(refusal_of("{" + tensor("b", "F32", "[1]", "[4,8]") + "}", 8), "hole");
    refusal_of("{" + a + "}", 12);
    refusal_of("{}", 1);
}

TEST_F(SafeTensorsHeader, OffsetsThatDoNotFit) {
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

TEST_F(SafeTensorsHeader, ShapesThatOverflow) {
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
}

TEST_F(SafeTensorsHeader, EntriesThatAreMalformed) {
    const auto refused = [&](const std::string &entry) { return refusal_of("{\"weight\":" + entry + "}", 0); };
    for (const char *entry : {"7", "null", "[]", "\"F32\"", "{}", "true", R"({"dtype":"F32","shape":[0]})", R"({"dtype":"F32","data_offsets":[0,0]})",
                              R"({"dtype":"F32","dtype":"F32","shape":[0],"data_offsets":[0,0]})",
                              R"({"dtype":"F32","shape":[0],"shape":[0],"data_offsets":[0,0]})", R"({"dtype":["F32"],"shape":[0],"data_offsets":[0,0]})",
                              R"({"dtype":7,"shape":[0],"data_offsets":[0,0]})"}) {
        EXPECT_HAS(refused(entry), "weight");
    }
}

TEST_F(SafeTensorsHeader, DtypesThatAreUnknown) {
    for (const char *dtype : {"F8", "E8M0", "f32", "", "FLOAT", "C128"}) {
        EXPECT_HAS(refusal_of("{" + tensor("weight", dtype, "[0]", "[0,0]") + "}", 0), "which the format does not have");
    }
}

// The last counts, as the reference reader has it.
TEST_F(SafeTensorsHeader, NamesThatAreThereTwice) {
    const std::string first = tensor("a", "F32", "[5]", "[0,4]"), last = tensor("\\u0061", "I64", "[1]", "[0,8]");
    write("{" + first + "," + last + "}", 8);
    const Result<SafeTensors> file = SafeTensors::open(path_);
    ASSERT_TRUE(file) << file.status().message();
    EXPECT_EQ(file->tensors().size(), 1u);
    EXPECT_EQ(file->tensors().at("a").describe(), "i64 [1] on cpu");
    EXPECT_HAS(refusal_of("{" + tensor("a", "F32", "[1]", "[0,4]") + "," + tensor("a", "F32", "[1]", "[4,8]") + "}", 8), "tensor a is there twice");
    write(R"({"__metadata__":{"k":"1","k":"2"}})", 0);
    ASSERT_TRUE(SafeTensors::open(path_));
    EXPECT_EQ(SafeTensors::open(path_)->metadata().at("k"), "2");
    EXPECT_HAS(refusal_of(R"({"__metadata__":{},"__metadata__":{}})", 0), "twice");
    EXPECT_HAS(refusal_of(R"({"a":{"dtype":"F32","dtype":"F32","shape":[0],"data_offsets":[0,0]}})", 0), "dtype twice");
}

TEST_F(SafeTensorsHeader, MetadataMustBeStrings) {
    for (const char *metadata : {"7", "[]", "\"x\"", R"({"k":1})", R"({"k":{}})", R"({"k":["x"]})", R"({"k":null})"}) {
        EXPECT_HAS(refusal_of(std::string("{\"__metadata__\":") + metadata + "}", 0), "__metadata__");
    }
}

TEST_F(SafeTensorsHeader, TextThatIsNotJson) {
    for (const char *header : {"{", "{\"a\"", "{]", "{}{}", "{} x", "{\"a\":1e999}", "{\"\xff\":{}}", "{'a':{}}", "{\"a\" {}}"}) {
        refusal_of(header, 0);
    }
    refusal_of(std::string("{\"a\0b\"}", 7), 0);
    EXPECT_HAS(refusal_of(std::string("{}\0\0", 4), 0), "byte of 0");
    refusal_of("\xef\xbb\xbf{}", 0);
}

TEST_F(SafeTensorsHeader, DeepNestingAndLongLists) {
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

struct Header {
    const char *text;
    size_t data_bytes;
};

constexpr Header kOpened[] = {
    {" {}", 0},
    {"\n{}\t ", 0},
    {R"({"__metadata__":null,"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 4},
    {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"comment":"x"}})", 4},
    {R"({"a":{"x":{"y":[1,-2.5,null,true,{"dtype":"Z"}],"y":[]},"dtype":"F32","x":0,"shape":[1],"data_offsets":[0,4]}})", 4},
    {R"({"a":{"x":123456789012345678901234567890,"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 4},
    {R"({"a":{"dtype":"F\u00332","shape":[1],"data_offsets":[0,4]}})", 4},
    {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 4},
    {R"({"":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a\u0000":{"dtype":"U8","shape":[],"data_offsets":[4,5]}})", 5},
    {R"({"a":{"dtype":"F32","shape":[9223372036854775807,0],"data_offsets":[0,0]}})", 0},
    {R"({"a":{"dtype":"F32","shape":[0,9223372036854775807,9223372036854775807],"data_offsets":[0,0]}})", 0},
    {R"({"a":{"dtype":"F32","shape":[18446744073709551615,0],"data_offsets":[0,0]}})", 0},
    {R"({"a":{"dtype":"F32","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,4]}})", 4},
    {R"({"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"z":{"dtype":"BF16","shape":[3,0],"data_offsets":[4,4]}})", 4},
    {R"({"a":{"dtype":"F4","shape":[2],"data_offsets":[0,1]},"b":{"dtype":"F6_E2M3","shape":[4],"data_offsets":[1,4]},"c":{"dtype":"C64","shape":[1],"data_offsets":[4,12]}})", 12},
};

constexpr Header kRefused[] = {
    {R"({"a":{"dtype":"F4","shape":[1],"data_offsets":[0,1]}})", 1},
    {R"({"a":{"dtype":"F32","shape":[9223372036854775807,9223372036854775807,0],"data_offsets":[0,0]}})", 0},
    {R"({"a":{"dtype":"F32","shape":[-0],"data_offsets":[0,0]}})", 0},
    {R"({"a":{"dtype":"F32","shape":[1e0],"data_offsets":[0,4]}})", 4},
    {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"z":{"dtype":"F32","shape":[0],"data_offsets":[2,2]}})", 4},
    {R"({"a":{"dtype":"XX","shape":[5],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 4},
    {R"({"a":{"x":1e999,"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 4},
    {R"({"a":{"dtype":null,"shape":[1],"data_offsets":[0,4]}})", 4},
    {R"({"__metadata__":null,"__metadata__":{"a":"b"}})", 0},
    {R"({"w":{"dtype":"F16","shape":[2],"data_offsets":[0,4]},"z":{"dtype":"F32","s"pe":[7,3],"data_offsets":[4,4]}})", 4},
    {"{\"a\x01\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4},
};

TEST_F(SafeTensorsHeader, WhatTheReferenceReaderOpensIsOpened) {
    for (const Header &header : kOpened) {
        write(header.text, header.data_bytes);
        const Result<SafeTensors> file = SafeTensors::open(path_);
        EXPECT_TRUE(file.ok()) << header.text << "\n"
                               << file.status().message();
    }
    for (const int depth : {1, 100, 125}) {
        write(R"({"a":{"x":)" + std::string(depth, '[') + std::string(depth, ']') + R"(,"dtype":"F32","shape":[0],"data_offsets":[0,0]}})", 0);
        EXPECT_TRUE(SafeTensors::open(path_).ok()) << depth;
    }
}

TEST_F(SafeTensorsHeader, WhatTheReferenceReaderRefusesIsRefused) {
    for (const Header &header : kRefused) {
        EXPECT_NE(refusal_of(header.text, header.data_bytes), "") << header.text;
    }
    EXPECT_HAS(refusal_of(R"({"a":{"x":)" + std::string(126, '[') + std::string(126, ']') + R"(,"dtype":"F32","shape":[0],"data_offsets":[0,0]}})", 0), "127 deep");
}

// Whatever bytes change, a file is refused with a message, or all that it gives can be read.
TEST_F(SafeTensorsHeader, ChangedBytesNeverLeadAstray) {
    const std::string header = "{" + tensor("a", "F32", "[2]", "[0,8]") + "," + tensor("h", "F16", "[3]", "[8,14]") + "," + tensor("q", "I8", "[2]", "[14,16]") + "}";
    constexpr std::string_view kBytes("{}[],:\"01-9.en \x00\xff", 18);
    size_t opened = 0;
    for (size_t place = 0; place < header.size(); place++) {
        for (const char byte : kBytes) {
            std::string changed = header;
            changed[place] = byte;
            write(changed, 16);
            const Result<SafeTensors> file = SafeTensors::open(path_);
            if (!file.ok()) {
                EXPECT_FALSE(file.status().message().empty());
                continue;
            }
            opened++;
            size_t bytes = 0;
            for (const auto &[name, view] : file->tensors()) {
                for (size_t i = 0; i < static_cast<size_t>(view.elements()) * size_bytes(view.dtype); i++) {
                    bytes += static_cast<size_t>(static_cast<const uint8_t *>(view.data)[i]);
                }
            }
            EXPECT_LE(bytes, 16u) << changed;
        }
    }
    EXPECT_GT(opened, 50u);  // names may change
}

}  // namespace

}  // namespace moa
