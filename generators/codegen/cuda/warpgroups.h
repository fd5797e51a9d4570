#pragma once

#include <string>

// PTX of products of a warpgroup (wgmma), which GPUs of compute capability 9.0 have and no others.
namespace moa::codegen::cuda {

inline constexpr int kWarpgroupCapability = 90;
inline constexpr char kWarpgroupTarget[] = "sm_90a", kWarpgroupVersion[] = "8.0";

struct WarpgroupProduct {
    std::string type;  // bf16, f16
    int set = 0, columns = 0, row_bytes = 0;

    int instructions() const;  // of 32 bytes of a row
};

// The registers of a set of sums: their names, their declaration, and zeros for them.
std::string sum_name(int set, int i);
std::string declare_sums(int set, int columns);
std::string clear_sums(int set, int columns);

// Lines that make the 64-bit register `name` describe a tile in shared memory of rows of 64 or 128 bytes. `address` is that
// of a load: [register], [symbol], either with an offset. Throws std::runtime_error for another width of rows.
std::string describe_tile(const std::string &name, const std::string &address, int row_bytes);

// Lines that begin the product of two such tiles, as a group of its own.
std::string multiply_tiles(const WarpgroupProduct &product, const std::string &a, const std::string &b);

}  // namespace moa::codegen::cuda
