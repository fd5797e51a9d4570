#include "generators/codegen/cuda/warpgroups.h"

#include "generators/codegen/cuda/markers.h"

#include <algorithm>
#include <regex>
#include <sstream>
#include <stdexcept>

namespace moa::codegen::cuda {
namespace {

constexpr int kBytesOfInstruction = 32;  // of a row of both operands
constexpr int kUnit = 16;                // of addresses in descriptors

constexpr char kFence[] = "\twgmma.fence.sync.aligned;\n", kCommit[] = "\twgmma.commit_group.sync.aligned;\n";

std::string sum_name(int set, int i) {
    return "%sum" + std::to_string(set) + "_" + std::to_string(i);
}

int sums_of(int columns) {  // of a thread
    return columns / 2;
}

int number(const Warpgroups::Call &call, size_t i) {
    return std::stoi(call.arguments.at(i));
}

std::string type_of(const std::string &name) {
    return name == marker::kMultiplyBf16 || name == marker::kMixBf16 ? "bf16" : "f16";
}

std::string instruction(const std::string &type, int set, int columns) {
    std::string sums;
    for (int i = 0; i < sums_of(columns); i++) {
        sums += (i == 0 ? "" : ", ") + sum_name(set, i);
    }
    return "\twgmma.mma_async.sync.aligned.m64n" + std::to_string(columns) + "k16.f32." + type + "." + type + " {" + sums + "}, ";
}

}  // namespace

bool Warpgroups::takes(const std::string &name) {
    return name.rfind("moa_wgmma", 0) == 0;
}

void Warpgroups::find(size_t id, size_t kernel, const Call &call) {
    if (!marker::is_product(call.name)) {
        return;
    }
    std::vector<Tile> &tiles = tiles_[id];
    const auto add = [&](size_t word, int row_bytes, int parts, int part_bytes) {
        of_[{kernel, call.arguments.at(word)}].emplace_back(id, tiles.size());
        tiles.push_back({"%tile" + std::to_string(tiles_.size()) + (tiles.empty() ? "_a" : "_b"), row_bytes, parts, part_bytes});
    };
    const size_t set = marker::set_of_product(call.name);
    const int row_bytes = number(call, set + 2), parts = number(call, set + 3);
    add(1, row_bytes, parts, number(call, set + 4));
    if (!marker::is_mix(call.name)) {
        add(2, row_bytes, parts, number(call, set + 5));
    }
}

// PTX ISA, "Matrix descriptor": address in bits 0 to 13, bytes from a part of the rows to the next in bits 16 to 29, of a step of
// eight rows in bits 32 to 45, in units of 16 bytes, and the exchange of chunks in bits 62 and 63: 1 for rows of 128 bytes, 2
// for rows of 64.
std::string Warpgroups::describe(const Tile &tile, const std::string &address) {
    static const std::regex parts_of(R"(\[([%\w$]+)(?:\+(-?\d+))?\])");
    std::smatch match;
    if (!std::regex_match(address, match, parts_of)) {
        throw std::runtime_error("PTX: a tile's address is not understood: " + address);
    }
    if (tile.row_bytes != 64 && tile.row_bytes != 128) {
        throw std::runtime_error("PTX: tiles of a warpgroup have rows of 64 or 128 bytes, not " + std::to_string(tile.row_bytes));
    }
    const unsigned long long exchange = tile.row_bytes == 128 ? 1 : 2, step = 8 * tile.row_bytes / kUnit, part = tile.parts == 1 ? 1 : tile.part_bytes / kUnit;
    const std::string base = match[1], offset = match[2].matched ? match[2].str() : "0", &name = tile.name, at = name + "_at";
    std::ostringstream text;
    text << "\t.reg .b32 " << at << ";\n\t.reg .b64 " << name << ";\n";
    text << (base.rfind("%rd", 0) == 0 ? "\tcvt.u32.u64 " : "\tmov.b32 ") << at << ", " << base << ";\n";
    text << "\tadd.u32 " << at << ", " << at << ", " << offset << ";\n\tshr.u32 " << at << ", " << at << ", 4;\n\tand.b32 " << at << ", " << at << ", 0x3fff;\n";
    text << "\tcvt.u64.u32 " << name << ", " << at << ";\n\tor.b64 " << name << ", " << name << ", 0x" << std::hex << ((exchange << 62) | (step << 32) | (part << 16)) << ";";
    return text.str();
}

std::string Warpgroups::load(size_t kernel, const std::string &name, const std::string &address) {
    const auto named = of_.find({kernel, name});
    std::string text;
    if (named != of_.end()) {
        for (const auto &[id, i] : named->second) {
            Tile &tile = tiles_.at(id).at(i);
            text += (text.empty() ? "" : "\n") + describe(tile, address);
            tile.described = true;
        }
    }
    return text;
}

void Warpgroups::declare(size_t kernel, int set, int columns) {
    const auto [known, is_new] = declared_.try_emplace({kernel, set}, columns);
    if (!is_new) {
        if (known->second != columns) {
            throw std::runtime_error("PTX: sums " + std::to_string(set) + " have " + std::to_string(known->second) + " and " + std::to_string(columns) + " columns");
        }
        return;
    }
    declarations_ += "\t.reg .f32 ";
    for (int i = 0; i < sums_of(columns); i++) {
        declarations_ += (i == 0 ? "" : ", ") + sum_name(set, i);
    }
    declarations_ += ";\n";
}

std::string Warpgroups::take_declarations() {
    return std::exchange(declarations_, {});
}

std::string Warpgroups::begin(const Call &call) {
    std::string text;
    for (int i = 0; i < sums_of(number(call, 1)); i++) {
        text += "\tmov.b32 " + sum_name(number(call, 0), i) + ", " + call.arguments.at(2 + i) + ";\n";
    }
    return text;
}

std::string Warpgroups::scale(const Call &call) {
    const int set = number(call, 1);
    std::string text = finish(set);
    for (int i = 0; i < sums_of(number(call, 2)); i++) {
        const std::string name = sum_name(set, i);
        text.append("\tmul.f32 ").append(name).append(", ").append(name).append(", ").append(call.arguments.at(3 + i / 2 % 2)).append(";\n");
    }
    return text;
}

std::string Warpgroups::multiply_tiles(const Sums &sums, const Tile &a, const Tile &b) {
    std::string text = kFence;
    const int in_part = a.row_bytes / kBytesOfInstruction;
    const auto moved = [&](const Tile &tile, int i) {
        std::string name = tile.name + "_" + std::to_string(i);
        const int bytes = i / in_part * tile.part_bytes + i % in_part * kBytesOfInstruction;
        text += "\t.reg .b64 " + name + ";\n\tadd.s64 " + name + ", " + tile.name + ", " + std::to_string(bytes / kUnit) + ";\n";
        return name;
    };
    for (int i = 0; i < a.parts * in_part; i++) {
        const std::string from_a = moved(a, i), from_b = moved(b, i);
        text.append(instruction(sums.type, sums.set, sums.columns)).append(from_a).append(", ").append(from_b).append(i == 0 && sums.fresh ? ", 0" : ", 1").append(", 1, 1, 0, 0;\n");
    }
    return text + kCommit;
}

std::string Warpgroups::multiply_rows(const Sums &sums, const Call &call, const Tile &b) {
    const std::vector<std::string> &a = call.arguments;
    return kFence + instruction(sums.type, sums.set, sums.columns) + "{" + a.at(2) + ", " + a.at(3) + ", " + a.at(4) + ", " + a.at(5) + "}, " + b.name + ", 1, 1, 1, 1;\n" + kCommit;
}

std::string Warpgroups::product(size_t id, const Call &call) {
    const std::vector<Tile> &tiles = tiles_.at(id);
    for (const Tile &tile : tiles) {
        if (!tile.described) {
            throw std::runtime_error("PTX: a tile of " + call.name + " is not loaded by itself");
        }
    }
    const size_t set = marker::set_of_product(call.name);
    const bool mix = marker::is_mix(call.name);
    const Sums sums{type_of(call.name), number(call, set), number(call, set + 1), !mix && number(call, set + 6) != 0};
    begun_.push_back({sums.set, block_});
    instructions_ += mix ? 1 : tiles[0].parts * tiles[0].row_bytes / kBytesOfInstruction;
    return mix ? multiply_rows(sums, call, tiles[0]) : multiply_tiles(sums, tiles[0], tiles[1]);
}

// Sums are waited for where they are first read, and no younger group with them: what stands between runs meanwhile.
std::string Warpgroups::finish(int set) {
    const auto last = std::find_if(begun_.rbegin(), begun_.rend(), [&](const Group &group) { return group.set == set; });
    if (last == begun_.rend()) {
        return "";
    }
    if (last->block != block_) {
        throw std::runtime_error("PTX: sums are read in another block than their products, which have not been waited for");
    }
    const int younger = static_cast<int>(last - begun_.rbegin());
    wait_for(younger);
    return "\twgmma.wait_group.sync.aligned " + std::to_string(younger) + ";\n";
}

void Warpgroups::next_block() {
    block_++;
}

void Warpgroups::wait_for(int groups) {
    if (static_cast<size_t>(groups) < begun_.size()) {
        begun_.erase(begun_.begin(), begun_.end() - groups);
    }
}

std::string Warpgroups::call(size_t id, size_t kernel, const Call &call) {
    std::string text;
    if (call.name == marker::kSum) {
        text = finish(number(call, 1));
        return text + "\tmov.b32 " + call.result + ", " + sum_name(number(call, 1), number(call, 2)) + ";";
    }
    if (call.name == marker::kBeginSums) {
        declare(kernel, number(call, 0), number(call, 1));
        text = begin(call);
    } else if (call.name == marker::kScaleSums) {
        text = scale(call);
    } else if (marker::is_product(call.name)) {
        const size_t set = marker::set_of_product(call.name);
        declare(kernel, number(call, set), number(call, set + 1));
        text = product(id, call);
    } else {
        throw std::runtime_error("PTX: there is no instruction for " + call.name);
    }
    return text + "\tmov.b32 " + call.result + ", 0;";  // the token, which orders the calls and is nothing
}

}  // namespace moa::codegen::cuda
