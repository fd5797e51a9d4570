#include "runtime/cuda/image.h"

#include "runtime/text.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace moa::cuda {

namespace {

constexpr std::array<char, 8> kMagic{'M', 'O', 'A', 'C', 'U', 'D', 'A', '\0'};

struct Header {
    std::array<char, 8> magic;
    uint32_t version, count;
};

struct Entry {
    uint32_t sm, reserved;
    uint64_t offset, size;
};

Status damaged(std::string_view what) {
    return {Code::internal, text("a row's device code is damaged: {}", what)};
}

bool is_text(std::span<const char> data) {
    return !data.empty() && std::memchr(data.data(), '\0', data.size()) != nullptr;
}

std::string_view next_word(std::string_view text, size_t from) {
    const size_t begin = std::min(text.find_first_not_of(" \t", from), text.size());
    return text.substr(begin, text.find_first_of(" \t\r\n(,;", begin) - begin);
}

}  // namespace

Result<std::vector<Image>> parse_images(std::span<const char> code) {
    Header header{};
    if (code.size() < sizeof header || std::memcmp(code.data(), kMagic.data(), kMagic.size()) != 0) {
        if (!is_text(code)) {
            return damaged("it is neither a bundle nor PTX text");
        }
        return std::vector<Image>{{0, code}};
    }
    std::memcpy(&header, code.data(), sizeof header);
    if (header.version != 1) {
        return damaged(text("its bundle has version {}", header.version));
    }
    if (header.count > (code.size() - sizeof header) / sizeof(Entry)) {
        return damaged(text("its bundle of {} bytes cannot list {} images", code.size(), header.count));
    }
    std::vector<Image> images;
    for (uint32_t index = 0; index < header.count; index++) {
        Entry entry{};
        std::memcpy(&entry, code.data() + sizeof header + index * sizeof entry, sizeof entry);
        if (entry.offset > code.size() || entry.size > code.size() - entry.offset || entry.size == 0) {
            return damaged(text("image {} lies at {} + {} of {} bytes", index, entry.offset, entry.size, code.size()));
        }
        const std::span<const char> data = code.subspan(entry.offset, entry.size);
        if (entry.sm == 0 && !is_text(data)) {
            return damaged(text("the PTX of image {} does not end", index));
        }
        images.push_back({static_cast<int>(entry.sm), data});
    }
    return images;
}

std::vector<Image> images_for(std::span<const Image> images, int capability) {
    std::vector<Image> fitting;
    std::copy_if(images.begin(), images.end(), std::back_inserter(fitting), [&](const Image &image) {
        return image.sm == 0 || (image.sm / 10 == capability / 10 && image.sm <= capability);
    });
    std::stable_sort(fitting.begin(), fitting.end(), [](const Image &a, const Image &b) { return a.sm > b.sm; });
    return fitting;
}

std::vector<std::string> kernels_of(std::string_view ptx) {
    constexpr std::string_view kEntry = ".entry";
    std::vector<std::string> names;
    for (size_t at = ptx.find(kEntry); at != std::string_view::npos; at = ptx.find(kEntry, at)) {
        at += kEntry.size();
        if (const std::string_view name = next_word(ptx, at); !name.empty()) {
            names.emplace_back(name);
        }
    }
    return names;
}

std::string ptx_version(std::string_view ptx) {
    constexpr std::string_view kVersion = ".version";
    const size_t at = ptx.find(kVersion);
    return at == std::string_view::npos ? std::string() : std::string(next_word(ptx, at + kVersion.size()));
}

}  // namespace moa::cuda
