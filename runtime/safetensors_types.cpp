#include "runtime/safetensors_header.h"

#include "runtime/text.h"

#include <algorithm>
#include <array>

namespace moa::safetensors {

namespace {

constexpr std::array<Type, 22> kTypes{{{"F32", 32, DType::f32},
                                       {"F64", 64, DType::f64},
                                       {"BF16", 16, DType::bf16},
                                       {"F16", 16, DType::f16},
                                       {"I32", 32, DType::i32},
                                       {"I64", 64, DType::i64},
                                       {"U8", 8, DType::u8},
                                       {"BOOL", 8, DType::boolean},
                                       {"I8", 8},
                                       {"I16", 16},
                                       {"U16", 16},
                                       {"U32", 32},
                                       {"U64", 64},
                                       {"C64", 64},
                                       {"F8_E4M3", 8},
                                       {"F8_E5M2", 8},
                                       {"F8_E8M0", 8},
                                       {"F8_E4M3FNUZ", 8},
                                       {"F8_E5M2FNUZ", 8},
                                       {"F6_E2M3", 6},
                                       {"F6_E3M2", 6},
                                       {"F4", 4}}};

}  // namespace

const Type *find_type(std::string_view name) {
    const auto *found = std::find_if(kTypes.begin(), kTypes.end(), [&](const Type &type) { return type.name == name; });
    return found == kTypes.end() ? nullptr : found;
}

std::string_view type_name(DType dtype) {
    const auto *found = std::find_if(kTypes.begin(), kTypes.end(), [&](const Type &type) { return type.dtype == dtype; });
    return found == kTypes.end() ? std::string_view() : found->name;
}

std::string readable_types() {
    std::string names;
    for (const Type &type : kTypes) {
        names += type.dtype ? text("{}{}", names.empty() ? "" : ", ", type.name) : "";
    }
    return names;
}

std::string Entry::describe() const {
    constexpr size_t kAxes = 16;
    std::string axes;
    for (size_t axis = 0; axis < std::min(shape.size(), kAxes); axis++) {
        axes += text("{}{}", axis == 0 ? "" : ", ", shape[axis]);
    }
    return text("{} [{}{}]", type->name, axes, shape.size() > kAxes ? ", ..." : "");
}

std::string other_format(std::string_view bytes) {
    const auto begins = [&](std::string_view magic) { return bytes.starts_with(magic); };
    const auto has = [&](std::string_view part) { return bytes.find(part) != std::string_view::npos; };
    const size_t first = bytes.find_first_not_of(" \t\r\n");
    const std::string_view trimmed = first == std::string_view::npos ? std::string_view() : bytes.substr(first);
    constexpr std::string_view kGzip("\x1f\x8b");
    if (bytes.size() >= 8 && bytes.substr(4, 4) == std::string_view("\0\0\0\0", 4) && !begins(kGzip)) {
        return "";  // a small number, as the length of a header is: no other format begins so
    }
    if (begins("version https://git-lfs")) {
        const size_t at = bytes.find("size "), end = bytes.find('\n', std::min(at, bytes.size()));
        const std::string size(at == std::string_view::npos ? "unknown" : bytes.substr(at + 5, std::min(end, at + 25) - at - 5));
        return text("a Git LFS pointer to a file of {} bytes, which was not downloaded; `git lfs pull` in its repository fetches it", size);
    }
    if (begins("PK\x03\x04")) {
        return "a zip archive, as torch.save writes; load it with torch.load and write it with safetensors.torch.save_file";
    }
    if (bytes.size() > 2 && bytes[0] == '\x80' && bytes[1] >= 2 && bytes[1] <= 5) {
        return "a Python pickle, as torch.save wrote before PyTorch 1.6; load it with torch.load and write it with safetensors.torch.save_file";
    }
    if (begins("GGUF") || begins("GGML") || begins("lmgg") || begins("tjgg")) {
        return "a file of llama.cpp (GGUF), whose quantised weights this library does not read; take the model's safetensors files";
    }
    if (begins("\x89HDF\r\n\x1a\n")) {
        return "an HDF5 file, as Keras writes; convert its weights to safetensors";
    }
    if (begins("\x93NUMPY")) {
        return "a NumPy array; write it with safetensors.numpy.save_file";
    }
    if (begins(kGzip) || begins("\x28\xb5\x2f\xfd") || begins("\xfd"
                                                              "7zXZ") ||
        begins("BZh")) {
        return "a compressed file; unpack it first";
    }
    if (trimmed.starts_with("<!") || trimmed.starts_with("<?") || trimmed.starts_with("<html")) {
        return "a page of HTML or XML: the download gave an answer and not the file";
    }
    if (trimmed.starts_with("{") && has("\"weight_map\"")) {
        return "the index of a sharded checkpoint, which holds no tensors; open the files that its weight_map names";
    }
    if (trimmed.starts_with("{") || trimmed.starts_with("[")) {
        return "a JSON text";
    }
    const auto is_text = [](unsigned char c) { return c >= 0x20 ? c < 0x7f : (c == '\n' || c == '\r' || c == '\t'); };
    return !bytes.empty() && std::all_of(bytes.begin(), bytes.end(), is_text) ? "a text file" : "";
}

}  // namespace moa::safetensors
