#pragma once

#include "moa/safetensors.h"

#include <cstring>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <string>

namespace moa {

#define EXPECT_HAS(text, part) EXPECT_NE((text).find(part), std::string::npos) << (text)

// Files of the test's own making.
class SafeTensorsFile : public testing::Test {
public:
    void SetUp() override {
        folder_ = std::filesystem::path(testing::TempDir()) / ("safetensors_" + std::string(testing::UnitTest::GetInstance()->current_test_info()->name()));
        std::filesystem::remove_all(folder_);
        std::filesystem::create_directories(folder_);
        path_ = folder_ / "file.safetensors";
    }
    void TearDown() override {
        std::filesystem::remove_all(folder_);
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
        return static_cast<size_t>(std::distance(std::filesystem::directory_iterator(folder_), std::filesystem::directory_iterator()));
    }

    std::filesystem::path folder_, path_;
};

inline std::string tensor(const std::string &name, const std::string &dtype, const std::string &shape, const std::string &offsets) {
    return "\"" + name + R"(":{"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}";
}

}  // namespace moa
