#include "moa/safetensors.h"

#include "runtime/file.h"
#include "runtime/safetensors_header.h"
#include "runtime/text.h"

#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <new>
#include <nlohmann/json.hpp>
#include <sys/stat.h>
#include <vector>

namespace moa {

namespace {

using Json = nlohmann::json;

// Elements in row-major order, gathered to large writes.
class Writer {
public:
    explicit Writer(const File &file)
        : file_(file) {
        buffer_.reserve(kBufferBytes);
    }

    bool put(const void *data, size_t bytes) {
        if (bytes >= kBufferBytes) {
            return flush() && file_.write(data, bytes);
        }
        if (buffer_.size() + bytes > kBufferBytes && !flush()) {
            return false;
        }
        const auto *begin = static_cast<const std::byte *>(data);
        buffer_.insert(buffer_.end(), begin, begin + bytes);
        return true;
    }
    bool put(const TensorView &tensor, int axis, const std::byte *data) {
        const auto element = static_cast<int64_t>(size_bytes(tensor.dtype));
        if (axis == tensor.rank) {
            return put(data, static_cast<size_t>(element));
        }
        if (axis == tensor.rank - 1 && tensor.strides[axis] == 1) {
            return put(data, static_cast<size_t>(element * tensor.shape[axis]));
        }
        for (int64_t index = 0; index < tensor.shape[axis]; index++) {
            if (!put(tensor, axis + 1, data + index * tensor.strides[axis] * element)) {
                return false;
            }
        }
        return true;
    }
    bool flush() {
        const bool done = file_.write(buffer_.data(), buffer_.size());
        buffer_.clear();
        return done;
    }

private:
    static constexpr size_t kBufferBytes = 1 << 16;
    const File &file_;
    std::vector<std::byte> buffer_;
};

Status check(const std::string &name, const TensorView &tensor) {
    uint64_t bytes = size_bytes(tensor.dtype);
    bool fits = tensor.rank >= 0 && tensor.rank <= kMaxRank && tensor.device.type == DeviceType::cpu && name != safetensors::kMetadataKey && !safetensors::type_name(tensor.dtype).empty();
    for (int axis = 0; fits && axis < tensor.rank; axis++) {
        fits = tensor.shape[axis] >= 0 && !__builtin_mul_overflow(bytes, static_cast<uint64_t>(tensor.shape[axis]), &bytes) && bytes < uint64_t{1} << 62;
    }
    if (!fits || (tensor.data == nullptr && tensor.elements() != 0)) {
        return invalid("tensor {} ({}) cannot be written", name, tensor.describe());
    }
    return {};
}

Result<std::string> header_of(const TensorMap &tensors, const Metadata &metadata) try {
    Json header = Json::object();
    if (!metadata.empty()) {
        header[safetensors::kMetadataKey] = metadata;
    }
    uint64_t at = 0;
    for (const auto &[name, tensor] : tensors) {
        if (Status status = check(name, tensor); !status) {
            return status;
        }
        const uint64_t bytes = static_cast<uint64_t>(tensor.elements()) * size_bytes(tensor.dtype);
        if (at + bytes < at) {
            return invalid("the tensors up to {} are larger than any file", name);
        }
        header[name] = {{"dtype", safetensors::type_name(tensor.dtype)},
                        {"shape", std::vector<int64_t>(tensor.shape.begin(), tensor.shape.begin() + tensor.rank)},
                        {"data_offsets", {at, at + bytes}}};
        at += bytes;
    }
    std::string dumped = header.dump();
    dumped.resize((dumped.size() + 7) / 8 * 8, ' ');  // tensors begin aligned
    return dumped.size() <= safetensors::kMaxHeaderBytes ? Result<std::string>(std::move(dumped)) : invalid("a header of {} bytes is too long", dumped.size());
} catch (const Json::exception &error) {
    return invalid("a name or metadata is not UTF-8: {}", error.what());
}

bool write_all(const File &file, const std::string &header, const TensorMap &tensors) try {
    std::array<unsigned char, 8> prefix{};
    for (size_t i = 0; i < prefix.size(); i++) {
        prefix[i] = static_cast<unsigned char>(header.size() >> (8 * i));
    }
    Writer writer(file);
    bool done = writer.put(prefix.data(), prefix.size()) && writer.put(header.data(), header.size());
    for (const auto &[name, tensor] : tensors) {
        done = done && (tensor.elements() == 0 || writer.put(tensor, 0, static_cast<const std::byte *>(tensor.data)));
    }
    return done && writer.flush() && ::fsync(file.descriptor()) == 0;
} catch (const std::bad_alloc &) {
    errno = ENOMEM;
    return false;
}

}  // namespace

Status write_safetensors(const std::string &path, const TensorMap &tensors, const Metadata &metadata) {
    const Result<std::string> header = header_of(tensors, metadata);
    if (!header.ok()) {
        return {header.status().code(), path + ": " + header.status().message()};
    }
    struct stat old {};
    if (::stat(path.c_str(), &old) == 0 && !S_ISREG(old.st_mode)) {
        return {Code::io_error, path + ": is no regular file, and would be replaced"};
    }
    static std::atomic<unsigned> count{0};
    const std::string temporary = text("{}.{}.{}.tmp", path, ::getpid(), count++);  // beside it: only so is a rename atomic
    File file(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
    if (file.descriptor() < 0) {
        return {Code::io_error, text("{}: {}", temporary, std::strerror(errno))};
    }
    errno = 0;
    bool done = write_all(file, *header, tensors);
    int error = errno;
    if (done && !(file.close() && ::rename(temporary.c_str(), path.c_str()) == 0)) {
        done = false;
        error = errno;
    }
    if (!done) {
        ::unlink(temporary.c_str());
        return {Code::io_error, text("{}: {}", path, std::strerror(error))};
    }
    return {};
}

}  // namespace moa
