#include "runtime/cuda/image.h"

#include <cstring>
#include <gtest/gtest.h>
#include <string>

namespace moa::cuda {
namespace {

constexpr std::string_view kPtx = ".version 7.0\n.target sm_80\n.visible .entry first(\n.param .u64 a)\n{ret;}\n.visible .entry second_2(){ret;}\n";

template<class Value>
void put(std::string &bytes, Value value) {
    bytes.append(reinterpret_cast<const char *>(&value), sizeof value);
}

struct Part {
    uint32_t sm;
    std::string bytes;
};

std::string bundle(const std::vector<Part> &parts, uint32_t version = 1) {
    std::string bytes("MOACUDA\0", 8), data;
    put(bytes, version);
    put(bytes, static_cast<uint32_t>(parts.size()));
    const size_t start = bytes.size() + parts.size() * 24;
    for (const Part &part : parts) {
        put(bytes, part.sm);
        put(bytes, uint32_t{0});
        put(bytes, static_cast<uint64_t>(start + data.size()));
        put(bytes, static_cast<uint64_t>(part.bytes.size()));
        data += part.bytes;
    }
    return bytes + data;
}

std::string ptx() {
    return std::string(kPtx) + '\0';
}

TEST(DeviceCode, TextIsOneImage) {
    const std::string code = ptx();
    const auto images = parse_images(code);
    ASSERT_TRUE(images.ok()) << images.status().message();
    ASSERT_EQ(images->size(), 1U);
    EXPECT_EQ((*images)[0].sm, 0);
    EXPECT_EQ(kernels_of((*images)[0].data.data()), (std::vector<std::string>{"first", "second_2"}));
    EXPECT_EQ(ptx_version(kPtx), "7.0");
}

TEST(DeviceCode, EveryGpuGetsWhatRunsThere) {
    const std::string code = bundle({{0, ptx()}, {80, "eighty"}, {86, "eighty-six"}, {90, "ninety"}});
    const auto images = parse_images(code);
    ASSERT_TRUE(images.ok()) << images.status().message();
    const auto order = [&](int capability) {
        std::vector<int> sms;
        for (const Image &image : images_for(*images, capability)) {
            sms.push_back(image.sm);
        }
        return sms;
    };
    EXPECT_EQ(order(80), (std::vector<int>{80, 0}));
    EXPECT_EQ(order(86), (std::vector<int>{86, 80, 0}));
    EXPECT_EQ(order(89), (std::vector<int>{86, 80, 0}));
    EXPECT_EQ(order(90), (std::vector<int>{90, 0}));
    EXPECT_EQ(order(120), (std::vector<int>{0}));
    EXPECT_EQ(std::string((*images)[3].data.data(), (*images)[3].data.size()), "ninety");
}

TEST(DeviceCode, DamageIsRefused) {
    const std::string good = bundle({{0, ptx()}, {90, "ninety"}});
    for (size_t length = 0; length < good.size(); length++) {  // cut short anywhere
        const std::string cut = good.substr(0, length);
        const auto images = parse_images({cut.data(), cut.size()});
        EXPECT_FALSE(images.ok() && images->size() == 2) << length;
    }
    std::string many = good;
    const uint32_t count = 0xffffffff;
    std::memcpy(many.data() + 12, &count, sizeof count);
    EXPECT_FALSE(parse_images({many.data(), many.size()}).ok());
    std::string far = good;
    const uint64_t offset = ~uint64_t{0} - 4;
    std::memcpy(far.data() + 16 + 8, &offset, sizeof offset);
    EXPECT_FALSE(parse_images({far.data(), far.size()}).ok());
    const std::string endless = bundle({{0, std::string(kPtx)}}), newer = bundle({{0, ptx()}}, 2), raw(kPtx);
    EXPECT_FALSE(parse_images({endless.data(), endless.size()}).ok());
    EXPECT_NE(parse_images({newer.data(), newer.size()}).status().message().find("version 2"), std::string::npos);
    EXPECT_FALSE(parse_images({raw.data(), raw.size()}).ok());
}

}  // namespace
}  // namespace moa::cuda
