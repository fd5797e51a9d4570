#include "generators/codegen/cuda/bundle.h"

namespace moa::codegen::cuda {
namespace {

constexpr size_t kHeader = 16, kEntry = 24, kAlignment = 16;

template<class Integer>
void put(std::string &to, Integer value) {
    for (size_t byte = 0; byte < sizeof(Integer); byte++) {
        to += static_cast<char>(value >> (8 * byte) & 0xff);
    }
}

size_t aligned(size_t offset) {
    return (offset + kAlignment - 1) / kAlignment * kAlignment;
}

}  // namespace

std::string write_bundle(const std::vector<Image> &images) {
    std::string bundle("MOACUDA\0", 8);
    put<uint32_t>(bundle, 1);
    put<uint32_t>(bundle, static_cast<uint32_t>(images.size()));
    const auto size_of = [](const Image &image) { return image.bytes.size() + (image.sm == 0 ? 1 : 0); };
    size_t offset = aligned(kHeader + kEntry * images.size());
    for (const Image &image : images) {
        put<uint32_t>(bundle, image.sm);
        put<uint32_t>(bundle, 0);
        put<uint64_t>(bundle, offset);
        put<uint64_t>(bundle, size_of(image));
        offset = aligned(offset + size_of(image));
    }
    for (const Image &image : images) {
        bundle.resize(aligned(bundle.size()));
        bundle += image.bytes;
        bundle.resize(bundle.size() + (image.sm == 0 ? 1 : 0));
    }
    return bundle;
}

}  // namespace moa::codegen::cuda
