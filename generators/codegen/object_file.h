#pragma once

#include <string>
#include <vector>

namespace moa::codegen {

// Makes an ELF object file a private part of this library: every symbol of Halide's runtime, defined or referred to, is
// renamed to moa_<name>, and every definition becomes hidden. So the library lives beside other code made by Halide and
// its runtime in one program, and shared builds export none of it. Done here and not with objcopy, which cannot hide
// symbols and handles the host's machine only. Throws std::runtime_error if the bytes are not a 64-bit little-endian
// object file.
std::vector<char> make_private(std::vector<char> object);

}  // namespace moa::codegen
