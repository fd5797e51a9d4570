#pragma once

#include <cstdint>
#include <string>
#include <vector>

// The device code of a row as it is embedded in its object file: code for some architectures and the PTX for all later ones.
namespace moa::codegen::cuda {

struct Image {
    uint32_t sm = 0;    // 80 for sm_80; 0: PTX
    std::string bytes;  // of PTX, the text; else what drivers load: ELF, or a fat binary of one compressed
};

// Little-endian: char magic[8] = "MOACUDA", u32 version = 1, u32 count, then for each image u32 sm, u32 0, u64 offset, u64
// size; then the images, each at a multiple of 16 bytes from the start. PTX is followed by a 0, which its size counts.
std::string write_bundle(const std::vector<Image> &images);

}  // namespace moa::codegen::cuda
