#include "moa/safetensors.h"

#include "runtime/caught.h"
#include "runtime/file.h"
#include "runtime/safetensors_header.h"
#include "runtime/text.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <limits>
#include <new>
#include <sys/stat.h>
#include <unistd.h>
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

// The error, or what the file is instead of a safetensors file.
Status explained(const File &file, uint64_t file_bytes, const std::string &path, const Status &status) {
    std::string first(std::min<uint64_t>(file_bytes, safetensors::kTellingBytes), '\0');
    const bool read = ::lseek(file.descriptor(), 0, SEEK_SET) == 0 && file.read(first.data(), first.size());
    const std::string other = read ? safetensors::other_format(first) : "";
    return {status.code(), other.empty() ? text("{}: {}", path, status.message()) : text("{}: no safetensors file but {}", path, other)};
}

// What precedes the data, with the sizes that a file claims checked against those that it has.
Result<OpenedFile> read_start(const File &file, uint64_t file_bytes, const std::string &path) {
    std::array<unsigned char, 8> prefix{};
    if (file_bytes < prefix.size()) {
        return explained(file, file_bytes, path, invalid("{} bytes are too few for a safetensors file", file_bytes));
    }
    if (!file.read(prefix.data(), prefix.size())) {
        return Status(Code::io_error, path + ": reading failed or the file became shorter");
    }
    uint64_t header_bytes = 0;
    for (size_t i = 0; i < prefix.size(); i++) {
        header_bytes |= static_cast<uint64_t>(prefix[i]) << (8 * i);
    }
    if (header_bytes > safetensors::kMaxHeaderBytes) {
        return explained(file, file_bytes, path, invalid("no safetensors file: its first 8 bytes claim a header of {} bytes, at most {} are allowed", header_bytes, safetensors::kMaxHeaderBytes));
    }
    if (header_bytes > file_bytes - prefix.size()) {
        return explained(file, file_bytes, path, invalid("no safetensors file, or cut short: it claims a header of {} bytes and has {} in all", header_bytes, file_bytes));
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
    const auto too_long = [](uint64_t extent) { return extent > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()); };
    std::string why;
    if (!entry.type->dtype) {
        why = text("a type that is not read ({} are)", safetensors::readable_types());
    } else if (entry.shape.size() > kMaxRank) {
        why = text("which has {} axes; at most {} are read", entry.shape.size(), kMaxRank);
    } else if (std::any_of(entry.shape.begin(), entry.shape.end(), too_long)) {
        why = "which has an extent of more than 2^63 - 1";
    }
    if (!why.empty()) {
        tensors.unreadable.emplace(entry.name, text("{}, {}", entry.describe(), why));
        return;
    }
    const DType dtype = *entry.type->dtype;
    std::byte *memory = data.get() + entry.begin;
    if (entry.begin % size_bytes(dtype) != 0) {
        realigned.push_back(allocate(entry.end - entry.begin));
        std::memcpy(realigned.back().get(), memory, entry.end - entry.begin);
        memory = realigned.back().get();
    }
    const std::vector<int64_t> shape(entry.shape.begin(), entry.shape.end());
    tensors.emplace(entry.name, TensorView(memory, dtype, std::span<const int64_t>(shape)));
}

SafeTensors::SafeTensors(std::shared_ptr<const Impl> impl)
    : impl_(std::move(impl)) {
}

Result<SafeTensors> SafeTensors::open(const std::string &path) try {
    const File file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));  // a pipe must not make it wait
    if (file.descriptor() < 0) {
        return Status(errno == ENOENT ? Code::not_found : Code::io_error, text("{}: {}", path, std::strerror(errno)));
    }
    struct stat info {};
    if (::fstat(file.descriptor(), &info) != 0 || !S_ISREG(info.st_mode)) {
        return Status(Code::io_error, path + (S_ISDIR(info.st_mode) ? ": a folder; open the safetensors files in it" : ": not a regular file"));
    }
    const auto file_bytes = static_cast<uint64_t>(info.st_size);
    const Result<OpenedFile> opened = read_start(file, file_bytes, path);
    if (!opened.ok()) {
        return opened.status();
    }
    Result<safetensors::Header> header = safetensors::parse_header(opened->header, opened->data_bytes);
    if (!header.ok()) {
        return explained(file, file_bytes, path, header.status());
    }
    auto impl = std::make_shared<Impl>();
    impl->data = with_memory(opened->data_bytes, "data in", path, [&] { return allocate(opened->data_bytes); });
    if (!file.read(impl->data.get(), opened->data_bytes)) {
        return Status(Code::io_error, path + ": reading failed or the file became shorter");
    }
    impl->metadata = std::move(header->metadata);
    for (const safetensors::Entry &entry : header->entries) {
        impl->add(entry);
    }
    return SafeTensors(std::move(impl));
} catch (...) {
    return caught("SafeTensors::open");
}

const TensorMap &SafeTensors::tensors() const {
    return impl_->tensors;
}

TensorMap SafeTensors::tensors(std::string_view prefix) const try {
    TensorMap result;
    for (const auto &[name, tensor] : impl_->tensors) {
        if (std::string_view(name).starts_with(prefix)) {
            result.emplace(name.substr(prefix.size()), tensor);
        }
    }
    for (const auto &[name, why] : impl_->tensors.unreadable) {
        if (std::string_view(name).starts_with(prefix)) {
            result.unreadable.emplace(name.substr(prefix.size()), why);
        }
    }
    return result;
} catch (...) {
    return {};
}

Result<TensorView> SafeTensors::tensor(std::string_view name) const try {
    if (const auto found = impl_->tensors.find(name); found != impl_->tensors.end()) {
        return found->second;
    }
    const auto why = impl_->tensors.unreadable.find(name);
    return why != impl_->tensors.unreadable.end() ? Status(Code::unsupported, text("tensor {} is {}", name, why->second)) : Status(Code::not_found, text("there is no tensor {}", name));
} catch (...) {
    return caught("SafeTensors::tensor");
}

const Metadata &SafeTensors::metadata() const {
    return impl_->metadata;
}

}  // namespace moa
