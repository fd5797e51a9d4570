#include "generators/codegen/cuda/stated.h"

#include <gtest/gtest.h>
#include <stdexcept>
#include <string>

namespace moa::codegen::cuda {
namespace {

Row row_stating(int shared_bytes, int spill_bytes = 0) {
    Row row;
    row.op = "combine";
    row.schedule = "cuda";
    row.target = "cuda_80";
    row.dtype = "f32";
    row.shared_bytes = shared_bytes;
    row.spill_bytes = spill_bytes;
    return row;
}

std::string refusal(const Row &row, const CudaReport &report) {
    try {
        check_stated(row, report);
        return "";
    } catch (const std::runtime_error &e) {
        return e.what();
    }
}

CudaReport taking(int shared_bytes) {
    CudaReport report;
    report.shared_bytes = shared_bytes;
    return report;
}

TEST(Stated, SharedMemoryMustBeWhatABlockTakes) {
    EXPECT_EQ(refusal(row_stating(65536), taking(65536)), "");
    EXPECT_EQ(refusal(row_stating(65535), taking(65536)), "combine__cuda_cuda_80_f32: \"shared_bytes\" must be 65536, which a block takes, not 65535");
    EXPECT_NE(refusal(row_stating(65537), taking(65536)).find("must be 65536"), std::string::npos);
    EXPECT_EQ(refusal(row_stating(0), taking(48 * 1024)), "") << "every GPU gives that much unasked";
    EXPECT_NE(refusal(row_stating(0), taking(48 * 1024 + 4)).find("must be 49156, which a block takes, not 0"), std::string::npos);
    EXPECT_NE(refusal(row_stating(1024), taking(0)).find("must be 0"), std::string::npos);
    EXPECT_EQ(refusal(row_stating(65536), taking(CudaReport::kUnknown)), "") << "launches tell";
}

TEST(Stated, SharedMemoryThatTheAssemblerAddsCounts) {
    CudaReport report = taking(65536);
    report.figures[90].shared_bytes = 1024;
    EXPECT_NE(refusal(row_stating(65536), report).find("must be 66560"), std::string::npos);
}

TEST(Stated, SpillsMustBeAllowed) {
    CudaReport report;
    report.figures[80].spill_bytes = 0;
    report.figures[90].spill_bytes = 12;
    EXPECT_EQ(refusal(row_stating(0), report), "combine__cuda_cuda_80_f32: a thread keeps 12 bytes of its registers in memory on sm_90; the row allows \"spill_bytes\": 0");
    EXPECT_NE(refusal(row_stating(0, 8), report), "");
    EXPECT_EQ(refusal(row_stating(0, 12), report), "");
}

TEST(Stated, SpillsOnOtherArchitecturesAreAWarning) {
    CudaReport report;
    report.figures[120].spill_bytes = 12;
    EXPECT_EQ(check_stated(row_stating(0), report), "a thread keeps 12 bytes of its registers in memory on sm_120");
    report.figures[120].spill_bytes = 0;
    EXPECT_EQ(check_stated(row_stating(0), report), "");
}

}  // namespace
}  // namespace moa::codegen::cuda
