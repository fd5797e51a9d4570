#include "generators/codegen/object_file.h"

#include <cstring>
#include <elf.h>
#include <stdexcept>
#include <string_view>

namespace moa::codegen {
namespace {

// Records are copied in and out: nothing promises that they are aligned in the file.
template<class Record>
Record load(const std::vector<char> &bytes, size_t offset) {
    if (offset > bytes.size() || sizeof(Record) > bytes.size() - offset) {
        throw std::runtime_error("object file is cut short");
    }
    Record record;
    std::memcpy(&record, bytes.data() + offset, sizeof(Record));
    return record;
}

template<class Record>
void store(std::vector<char> &bytes, size_t offset, const Record &record) {
    std::memcpy(bytes.data() + offset, &record, sizeof(Record));
}

// C functions of the runtime and its C++ internals, which carry state in weak symbols.
bool belongs_to_halide(std::string_view name) {
    return name.starts_with("halide_") || (name.starts_with("_Z") && name.find("6Halide7Runtime") != std::string_view::npos);
}

Elf64_Ehdr header_of(const std::vector<char> &object) {
    const auto header = load<Elf64_Ehdr>(object, 0);
    const bool is_elf64 = std::memcmp(header.e_ident, ELFMAG, SELFMAG) == 0 && header.e_ident[EI_CLASS] == ELFCLASS64 &&
                          header.e_ident[EI_DATA] == ELFDATA2LSB && header.e_type == ET_REL;
    if (!is_elf64) {
        throw std::runtime_error("only 64-bit little-endian ELF object files can be made");
    }
    return header;
}

size_t section_offset(const Elf64_Ehdr &header, size_t index) {
    return header.e_shoff + index * sizeof(Elf64_Shdr);
}

// New names go to a copy of the string table at the end of the file: the table may hold section names too.
struct Strings {
    std::string bytes;

    std::string_view at(size_t offset) const {
        if (offset >= bytes.size()) {
            throw std::runtime_error("object file has a symbol name outside of its string table");
        }
        return bytes.c_str() + offset;
    }
    Elf64_Word add(const std::string &name) {
        const size_t offset = bytes.size();
        bytes += name + '\0';
        return static_cast<Elf64_Word>(offset);
    }
};

void change_symbols(std::vector<char> &object, const Elf64_Shdr &table, Strings &strings) {
    for (size_t offset = table.sh_offset; offset < table.sh_offset + table.sh_size; offset += sizeof(Elf64_Sym)) {
        auto symbol = load<Elf64_Sym>(object, offset);
        if (ELF64_ST_BIND(symbol.st_info) == STB_LOCAL) {
            continue;
        }
        const std::string name(strings.at(symbol.st_name));
        if (belongs_to_halide(name)) {
            symbol.st_name = strings.add("moa_" + name);
        }
        if (symbol.st_shndx != SHN_UNDEF) {
            symbol.st_other = STV_HIDDEN;
        }
        store(object, offset, symbol);
    }
}

}  // namespace

std::vector<char> make_private(std::vector<char> object) {
    const Elf64_Ehdr header = header_of(object);
    for (size_t index = 0; index < header.e_shnum; index++) {
        const auto table = load<Elf64_Shdr>(object, section_offset(header, index));
        if (table.sh_type != SHT_SYMTAB) {
            continue;
        }
        auto names = load<Elf64_Shdr>(object, section_offset(header, table.sh_link));
        if (names.sh_offset > object.size() || names.sh_size > object.size() - names.sh_offset) {
            throw std::runtime_error("object file is cut short");
        }
        Strings strings{std::string(object.data() + names.sh_offset, names.sh_size)};
        change_symbols(object, table, strings);
        names.sh_offset = object.size();
        names.sh_size = strings.bytes.size();
        store(object, section_offset(header, table.sh_link), names);
        object.insert(object.end(), strings.bytes.begin(), strings.bytes.end());
    }
    return object;
}

}  // namespace moa::codegen
