#include "tests/unit/safetensors_file.h"

#include "moa/feed_forward.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

// What users hand over: files with types that this library does not have, and files of other formats.
namespace moa {

namespace {

class SafeTensorsFormats : public SafeTensorsFile {};

TEST_F(SafeTensorsFormats, TensorsThatNobodyAsksForDoNotMatter) {
    const std::pair<const char *, int> kTypes[] = {{"I8", 8}, {"I16", 16}, {"U16", 16}, {"U32", 32}, {"U64", 64}, {"C64", 64}, {"F8_E4M3", 8}, {"F8_E5M2", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8}, {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"F4", 4}};
    for (const auto &[type, bits] : kTypes) {
        const int bytes = 4 * bits / 8;
        write("{" + tensor("net.weight", "F32", "[2]", "[0,8]") + "," + tensor("net.buffer", type, "[4]", "[8," + std::to_string(8 + bytes) + "]") + "}", 8 + bytes);
        const Result<SafeTensors> file = SafeTensors::open(path_);
        ASSERT_TRUE(file) << type << ": " << file.status().message();
        EXPECT_EQ(file->tensors("net.").size(), 1u);
        EXPECT_TRUE(file->tensor("net.weight").ok());
        const Result<TensorView> asked = file->tensor("net.buffer");
        ASSERT_FALSE(asked.ok());
        EXPECT_EQ(asked.status().code(), Code::unsupported);
        EXPECT_HAS(asked.status().message(), "net.buffer is " + std::string(type) + " [4]");
        EXPECT_HAS(asked.status().message(), "F32, F64, BF16, F16, I32, I64, U8, BOOL");
        EXPECT_EQ(file->tensors("net.").unreadable.count("buffer"), 1u);
        EXPECT_EQ(file->tensor("net").status().code(), Code::not_found);
    }
}

TEST_F(SafeTensorsFormats, ManyAxesAndHugeExtentsDoNotMatter) {
    write("{" + tensor("w", "F32", "[1]", "[0,4]") + "," + tensor("table", "F32", "[1,1,1,1,1,1,1]", "[4,8]") + "," + tensor("none", "U8", "[18446744073709551615,0]", "[8,8]") + "}", 8);
    const Result<SafeTensors> file = SafeTensors::open(path_);
    ASSERT_TRUE(file) << file.status().message();
    EXPECT_EQ(file->tensors().size(), 1u);
    EXPECT_HAS(file->tensor("table").status().message(), "7 axes; at most 6");
    EXPECT_HAS(file->tensor("none").status().message(), "2^63");
}

// A layer says why it cannot have a weight, and takes no notice of what it does not need.
TEST_F(SafeTensorsFormats, LayersSayWhyAWeightCannotBeHad) {
    const Linear::Config config{2, 2, false, false};
    write("{" + tensor("weight", "F8_E4M3", "[2,2]", "[0,4]") + "}", 4);
    const Result<SafeTensors> quantised = SafeTensors::open(path_);
    ASSERT_TRUE(quantised) << quantised.status().message();
    const Result<Linear> layer = Linear::create(config, quantised->tensors());
    ASSERT_FALSE(layer.ok());
    EXPECT_EQ(layer.status().code(), Code::unsupported);
    EXPECT_HAS(layer.status().message(), "weight: the layer wants f32, bf16 or f16 [2, 2], and the file has F8_E4M3 [2, 2]");
    write("{" + tensor("weight", "F64", "[2,2]", "[0,32]") + "}", 32);
    const Result<Linear> doubles = Linear::create(config, SafeTensors::open(path_)->tensors());
    ASSERT_FALSE(doubles.ok());
    EXPECT_HAS(doubles.status().message(), "wants f32, bf16 or f16 [2, 2] on cpu, not f64 [2, 2]");
    write("{" + tensor("weight", "F32", "[2,2]", "[0,16]") + "," + tensor("steps", "U32", "[1]", "[16,20]") + "}", 20);
    EXPECT_TRUE(Linear::create(config, SafeTensors::open(path_)->tensors()).ok());
}

// Weights of f16 and bf16 are what their values are in f32.
TEST_F(SafeTensorsFormats, NarrowWeightsAreReadExactly) {
    constexpr int64_t kIn = 3, kOut = 2;
    const std::vector<float> values{1, -0.5, 1.5, 0.25, -2, 0};
    std::vector<uint16_t> halves{0x3c00, 0xb800, 0x3e00, 0x3400, 0xc000, 0x0000}, narrow{0x3f80, 0xbf00, 0x3fc0, 0x3e80, 0xc000, 0x0000};
    const std::vector<float> x{1, 2, 4};
    std::vector<std::vector<float>> results;
    for (const TensorView &weight : {TensorView(values.data(), DType::f32, {kOut, kIn}), TensorView(halves.data(), DType::f16, {kOut, kIn}), TensorView(narrow.data(), DType::bf16, {kOut, kIn})}) {
        ASSERT_TRUE(write_safetensors(path_, {{"weight", weight}}));
        const Result<SafeTensors> file = SafeTensors::open(path_);
        ASSERT_TRUE(file) << file.status().message();
        const Result<Linear> layer = Linear::create({kIn, kOut, false, false}, file->tensors());
        ASSERT_TRUE(layer.ok()) << layer.status().message();
        const Result<Plan> plan = layer->plan(1, 1);
        if (plan.status().code() == Code::unsupported) {
            GTEST_SKIP() << plan.status().message();
        }
        ASSERT_TRUE(plan.ok()) << plan.status().message();
        std::vector<float> out(kOut);
        const Status status = plan->run({{"x", TensorView(x.data(), DType::f32, {1, 1, kIn})}, {"out", TensorView(out.data(), DType::f32, {1, 1, kOut})}});
        ASSERT_TRUE(status) << status.message();
        results.push_back(out);
    }
    EXPECT_EQ(results[0], (std::vector<float>{6, -3.75}));
    EXPECT_EQ(results[1], results[0]);
    EXPECT_EQ(results[2], results[0]);
}

TEST_F(SafeTensorsFormats, OtherFormatsAreNamedWithWhatToDo) {
    const std::string zeros(100, '\0');
    const std::pair<std::string, std::vector<std::string>> kFiles[] = {
        {"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 4265146304\n", {"Git LFS pointer", "4265146304 bytes", "git lfs pull"}},
        {"PK\x03\x04" + zeros.substr(0, 2) + "\x08\x08" + zeros, {"torch.save", "safetensors.torch.save_file"}},
        {"\x80\x02\x8a\nl\xfc\x9c"
         "F\xf9 j\xa8P\x19." +
             zeros,
         {"pickle", "torch.load"}},
        {"GGUF\x03" + zeros, {"GGUF"}},
        {"\x89HDF\r\n\x1a\n" + zeros, {"HDF5"}},
        {"\x93NUMPY\x01" + zeros, {"NumPy"}},
        {std::string("\x1f\x8b\x08\0\0\0\0\0", 8) + zeros, {"compressed"}},
        {"<!DOCTYPE html><html><body>404 Not Found</body></html>", {"HTML"}},
        {"{\n  \"metadata\": {\"total_size\": 16},\n  \"weight_map\": {\"a\": \"model-00001-of-00002.safetensors\"}\n}\n", {"index of a sharded checkpoint", "weight_map"}},
        {"{\"config\": {\"dim\": 512}}", {"JSON"}},
        {"1234567", {"text"}},
        {"This is a plain text, and long enough to hold a length.", {"no safetensors file", "text"}},
    };
    for (const auto &[bytes, parts] : kFiles) {
        write_raw(bytes);
        const std::string message = refusal();
        EXPECT_EQ(message.find("claims a header"), std::string::npos) << message;
        for (const std::string &part : parts) {
            EXPECT_HAS(message, part);
        }
    }
    write_raw("");
    EXPECT_HAS(refusal(), "0 bytes are too few");
    path_ = folder_;
    EXPECT_HAS(refusal(Code::io_error), "a folder; open the safetensors files in it");
}

// A header of 60 bytes begins with the byte of '<', one of 123 with that of '{'.
TEST_F(SafeTensorsFormats, DamagedSafetensorsFilesAreNotTakenForOthers) {
    for (const size_t length : {60, 91, 123}) {
        std::string header = "{" + tensor("a", "F32", "[2]", "[0,12]") + "}";
        header.resize(length, ' ');
        EXPECT_HAS(refusal_of(header, 12), "tensor a has data_offsets [0, 12]");
        header[0] = 'x';
        EXPECT_HAS(refusal_of(header, 12), "does not begin with {");
    }
}

}  // namespace

}  // namespace moa
