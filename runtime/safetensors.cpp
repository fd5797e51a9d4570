#include "moa/safetensors.h"

#include "runtime/file.h"
#include "runtime/safetensors_header.h"
#include "runtime/text.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <new>
#include <sys/stat.h>
#include <utility>
#include <vector>

namespace moa {

namespace {

constexpr size_t kAlignment = 64;

struct AlignedDelete {
    void operator()(std::byte *memory) const {
        ::operator delete (memory, std::align_val_t{kAlignment});
    }
};
using AlignedBytes = std::unique_ptr<std::byte[], AlignedDelete>;

AlignedBytes allocate(uint64_t bytes) {
    return AlignedBytes(static_cast<std::byte *>(::operator new (std::max<uint64_t>(bytes, 1), std::align_val_t{kAlignment})));
}

struct OpenedFile {
    std::string header;
    uint64_t data_bytes = 0;
};

// What precedes the data, with the sizes that a file claims checked against those that it has.
Result<OpenedFile> read_start(const File &file, const std::string &path) {
    struct stat info {};
    if (::fstat(file.descriptor(), &info) != 0 || !S_ISREG(info.st_mode)) {
        return Status(Code::io_error, path + ": not a regular file");
    }
    const auto file_bytes = static_cast<uint64_t>(info.st_size);
    std::array<unsigned char, 8> prefix{};
    if (file_bytes < prefix.size() || !file.read(prefix.data(), prefix.size())) {
        return invalid("{}: {} bytes are too few for a safetensors file", path, file_bytes);
    }
    uint64_t header_bytes = 0;
    for (size_t i = 0; i < prefix.size(); i++) {
        header_bytes |= static_cast<uint64_t>(prefix[i]) << (8 * i);
    }
    if (header_bytes > safetensors::kMaxHeaderBytes || header_bytes > file_bytes - prefix.size()) {
        return invalid("{}: no safetensors file, or cut short: it claims a header of {} bytes in {}, at most {} are allowed", path, header_bytes, file_bytes,
                       safetensors::kMaxHeaderBytes);
    }
    OpenedFile opened{std::string(header_bytes, '\0'), file_bytes - prefix.size() - header_bytes};
    if (!file.read(opened.header.data(), opened.header.size())) {
        return Status(Code::io_error, path + ": reading failed or the file became shorter");
    }
    return opened;
}

}  // namespace

// Hidden: a class inside of an exported one is exported with it.
struct __attribute__((visibility("hidden"))) SafeTensors::Impl {
    AlignedBytes data;
    std::vector<AlignedBytes> realigned;
    TensorMap tensors;
    Metadata metadata;

    void add(const safetensors::Entry &entry);
};

// Files of other writers need not align what they hold.
void SafeTensors::Impl::add(const safetensors::Entry &entry) {
    std::byte *memory = data.get() + entry.begin;
    if (entry.begin % size_bytes(entry.dtype) != 0) {
        realigned.push_back(allocate(entry.end - entry.begin));
        std::memcpy(realigned.back().get(), memory, entry.end - entry.begin);
        memory = realigned.back().get();
    }
    tensors.emplace(entry.name, TensorView(memory, entry.dtype, std::span<const int64_t>(entry.shape)));
}

SafeTensors::SafeTensors(std::shared_ptr<const Impl> impl)
    : impl_(std::move(impl)) {
}

Result<SafeTensors> SafeTensors::open(const std::string &path) try {
    const File file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));  // a pipe must not make it wait
    if (file.descriptor() < 0) {
        return Status(errno == ENOENT ? Code::not_found : Code::io_error, text("{}: {}", path, std::strerror(errno)));
    }
    const Result<OpenedFile> opened = read_start(file, path);
    if (!opened.ok()) {
        return opened.status();
    }
    Result<safetensors::Header> header = safetensors::parse_header(opened->header, opened->data_bytes);
    if (!header.ok()) {
        return Status(header.status().code(), path + ": " + header.status().message());
    }
    auto impl = std::make_shared<Impl>();
    impl->data = allocate(opened->data_bytes);
    if (!file.read(impl->data.get(), opened->data_bytes)) {
        return Status(Code::io_error, path + ": reading failed or the file became shorter");
    }
    impl->metadata = std::move(header->metadata);
    for (const safetensors::Entry &entry : header->entries) {
        impl->add(entry);
    }
    return SafeTensors(std::move(impl));
} catch (const std::bad_alloc &) {
    return Status(Code::out_of_memory, path + ": too large for the memory there is");
}

const TensorMap &SafeTensors::tensors() const {
    return impl_->tensors;
}

TensorMap SafeTensors::tensors(std::string_view prefix) const {
    TensorMap result;
    for (const auto &[name, tensor] : impl_->tensors) {
        if (std::string_view(name).starts_with(prefix)) {
            result.emplace(name.substr(prefix.size()), tensor);
        }
    }
    return result;
}

const Metadata &SafeTensors::metadata() const {
    return impl_->metadata;
}

}  // namespace moa
