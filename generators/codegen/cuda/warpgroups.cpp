#include "generators/codegen/cuda/warpgroups.h"

#include <regex>
#include <sstream>
#include <stdexcept>

namespace moa::codegen::cuda {
namespace {

constexpr int kBytesOfInstruction = 32, kSumsOfColumns = 2;  // a thread has half a sum a column
constexpr int kUnit = 16;                                    // of addresses in descriptors

// PTX ISA, "Matrix descriptor": address in bits 0 to 13, bytes of a step of eight rows in bits 32 to 45, both in units of 16
// bytes, and the exchange of chunks in bits 62 and 63: 1 for rows of 128 bytes, 2 for rows of 64.
std::string constant_bits(int row_bytes) {
    if (row_bytes != 64 && row_bytes != 128) {
        throw std::runtime_error("PTX: tiles of a warpgroup have rows of 64 or 128 bytes, not " + std::to_string(row_bytes));
    }
    const unsigned long long exchange = row_bytes == 128 ? 1 : 2, step = 8 * row_bytes / kUnit;
    std::ostringstream text;
    text << "0x" << std::hex << ((exchange << 62) | (step << 32) | (1ULL << 16));
    return text.str();
}

}  // namespace

int WarpgroupProduct::instructions() const {
    return row_bytes / kBytesOfInstruction;
}

std::string sum_name(int set, int i) {
    return "%sum" + std::to_string(set) + "_" + std::to_string(i);
}

std::string declare_sums(int set, int columns) {
    std::string text = "\t.reg .f32 ";
    for (int i = 0; i < columns / kSumsOfColumns; i++) {
        text += (i == 0 ? "" : ", ") + sum_name(set, i);
    }
    return text + ";\n";
}

std::string clear_sums(int set, int columns) {
    std::string text;
    for (int i = 0; i < columns / kSumsOfColumns; i++) {
        text += "\tmov.f32 " + sum_name(set, i) + ", 0f00000000;\n";
    }
    return text;
}

std::string describe_tile(const std::string &name, const std::string &address, int row_bytes) {
    static const std::regex parts(R"(\[([%\w$]+)(?:\+(-?\d+))?\])");
    std::smatch match;
    if (!std::regex_match(address, match, parts)) {
        throw std::runtime_error("PTX: a tile's address is not understood: " + address);
    }
    const std::string base = match[1], offset = match[2].matched ? match[2].str() : "0", at = name + "_at";
    std::string text = "\t.reg .b32 " + at + ";\n\t.reg .b64 " + name + ";\n";
    text += (base.rfind("%rd", 0) == 0 ? "\tcvt.u32.u64 " : "\tmov.b32 ") + at + ", " + base + ";\n";
    text += "\tadd.u32 " + at + ", " + at + ", " + offset + ";\n\tshr.u32 " + at + ", " + at + ", 4;\n\tand.b32 " + at + ", " + at + ", 0x3fff;\n";
    return text + "\tcvt.u64.u32 " + name + ", " + at + ";\n\tor.b64 " + name + ", " + name + ", " + constant_bits(row_bytes) + ";\n";
}

std::string multiply_tiles(const WarpgroupProduct &product, const std::string &a, const std::string &b) {
    std::string sums;
    for (int i = 0; i < product.columns / kSumsOfColumns; i++) {
        sums += (i == 0 ? "" : ", ") + sum_name(product.set, i);
    }
    std::string text = "\twgmma.fence.sync.aligned;\n";
    const auto moved = [&](const std::string &tile, int i) {
        const std::string name = tile + "_" + std::to_string(i);
        text += "\t.reg .b64 " + name + ";\n\tadd.s64 " + name + ", " + tile + ", " + std::to_string(i * kBytesOfInstruction / kUnit) + ";\n";
        return name;
    };
    for (int i = 0; i < product.instructions(); i++) {
        const std::string from_a = moved(a, i), from_b = moved(b, i);
        text += "\twgmma.mma_async.sync.aligned.m64n" + std::to_string(product.columns) + "k16.f32." + product.type + "." + product.type +
                " {" + sums + "}, " + from_a + ", " + from_b + ", 1, 1, 1, 0, 0;\n";
    }
    return text + "\twgmma.commit_group.sync.aligned;\n";
}

}  // namespace moa::codegen::cuda
