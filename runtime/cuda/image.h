#pragma once

#include "moa/status.h"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

// The device code of a row, as its object embeds it: PTX text, or a bundle of PTX and machine code for some GPUs.
namespace moa::cuda {

struct Image {
    int sm = 0;  // 90: machine code for sm_90, which the driver may have to decompress; 0: PTX, which it compiles for any GPU
    std::span<const char> data;
};

// A bundle begins with "MOACUDA\0", u32 version 1, u32 count, then for each image u32 sm, u32 reserved, u64 offset,
// u64 size (little-endian; offsets from the start). Anything else must be text ended by a NUL. Checks every bound.
Result<std::vector<Image>> parse_images(std::span<const char> code);

// Machine code runs on GPUs of the same major and no lower minor capability. Best first, PTX last; empty: none fits.
std::vector<Image> images_for(std::span<const Image> images, int capability);

// The kernels of PTX text.
std::vector<std::string> kernels_of(std::string_view ptx);
// "8.0" of ".version 8.0"; empty without one.
std::string ptx_version(std::string_view ptx);

}  // namespace moa::cuda
