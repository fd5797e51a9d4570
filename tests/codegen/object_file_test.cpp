#include "generators/codegen/object_file.h"

#include <cstring>
#include <elf.h>
#include <gtest/gtest.h>
#include <string>

namespace moa::codegen {
namespace {

struct Symbol {
    std::string name;
    int binding;
    bool defined;
};

void append(std::vector<char> &bytes, const void *data, size_t size) {
    const char *first = static_cast<const char *>(data);
    bytes.insert(bytes.end(), first, first + size);
}

// An object file of a symbol table and its string table, and nothing else.
std::vector<char> object_of(const std::vector<Symbol> &symbols) {
    std::string names(1, '\0');
    std::vector<Elf64_Sym> table(1);
    for (const Symbol &symbol : symbols) {
        Elf64_Sym entry{};
        entry.st_name = static_cast<Elf64_Word>(names.size());
        entry.st_info = static_cast<unsigned char>(ELF64_ST_INFO(symbol.binding, STT_FUNC));
        entry.st_shndx = symbol.defined ? 1 : SHN_UNDEF;
        table.push_back(entry);
        names += symbol.name + '\0';
    }
    Elf64_Ehdr header{};
    std::memcpy(header.e_ident, ELFMAG, SELFMAG);
    header.e_ident[EI_CLASS] = ELFCLASS64;
    header.e_ident[EI_DATA] = ELFDATA2LSB;
    header.e_type = ET_REL;
    header.e_shnum = 3;
    header.e_shoff = sizeof(header);
    Elf64_Shdr sections[3]{};
    sections[1].sh_type = SHT_STRTAB;
    sections[1].sh_offset = sizeof(header) + sizeof(sections);
    sections[1].sh_size = names.size();
    sections[2].sh_type = SHT_SYMTAB;
    sections[2].sh_link = 1;
    sections[2].sh_offset = sections[1].sh_offset + names.size();
    sections[2].sh_size = table.size() * sizeof(Elf64_Sym);

    std::vector<char> bytes;
    append(bytes, &header, sizeof(header));
    append(bytes, sections, sizeof(sections));
    append(bytes, names.data(), names.size());
    append(bytes, table.data(), table.size() * sizeof(Elf64_Sym));
    return bytes;
}

struct Read {
    std::string name;
    int visibility;
};

std::vector<Read> symbols_of(const std::vector<char> &object) {
    Elf64_Shdr sections[3];
    std::memcpy(sections, object.data() + sizeof(Elf64_Ehdr), sizeof(sections));
    std::vector<Read> symbols;
    for (size_t offset = sizeof(Elf64_Sym); offset < sections[2].sh_size; offset += sizeof(Elf64_Sym)) {
        Elf64_Sym symbol;
        std::memcpy(&symbol, object.data() + sections[2].sh_offset + offset, sizeof(symbol));
        symbols.push_back({object.data() + sections[1].sh_offset + symbol.st_name, ELF64_ST_VISIBILITY(symbol.st_other)});
    }
    return symbols;
}

TEST(ObjectFile, HalidesSymbolsAreRenamedAndDefinitionsHidden) {
    const auto symbols = symbols_of(make_private(object_of({{"halide_malloc", STB_GLOBAL, false},
                                                            {"halide_free", STB_WEAK, true},
                                                            {"_ZN6Halide7Runtime8Internal3runEv", STB_WEAK, true},
                                                            {"memcpy", STB_GLOBAL, false},
                                                            {"kernel", STB_GLOBAL, true},
                                                            {"halide_local", STB_LOCAL, true}})));
    ASSERT_EQ(symbols.size(), 6U);
    EXPECT_EQ(symbols[0].name, "moa_halide_malloc");
    EXPECT_EQ(symbols[0].visibility, STV_DEFAULT);
    EXPECT_EQ(symbols[1].name, "moa_halide_free");
    EXPECT_EQ(symbols[1].visibility, STV_HIDDEN);
    EXPECT_EQ(symbols[2].name, "moa__ZN6Halide7Runtime8Internal3runEv");
    EXPECT_EQ(symbols[3].name, "memcpy");
    EXPECT_EQ(symbols[4].name, "kernel");
    EXPECT_EQ(symbols[4].visibility, STV_HIDDEN);
    EXPECT_EQ(symbols[5].name, "halide_local");
}

TEST(ObjectFile, OtherFilesAreRefused) {
    EXPECT_THROW(make_private({}), std::runtime_error);
    EXPECT_THROW(make_private(std::vector<char>(1000, 'x')), std::runtime_error);
    auto executable = object_of({});
    Elf64_Half type = ET_EXEC;
    std::memcpy(executable.data() + offsetof(Elf64_Ehdr, e_type), &type, sizeof(type));
    EXPECT_THROW(make_private(executable), std::runtime_error);
}

TEST(ObjectFile, EveryCutIsRefused) {
    const auto whole = object_of({{"halide_malloc", STB_GLOBAL, false}});
    for (size_t size = 0; size < whole.size(); size++) {
        EXPECT_THROW(make_private({whole.begin(), whole.begin() + static_cast<long>(size)}), std::runtime_error) << size;
    }
}

}  // namespace
}  // namespace moa::codegen
