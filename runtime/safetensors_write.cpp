#include "moa/safetensors.h"

#include "runtime/caught.h"
#include "runtime/file.h"
#include "runtime/safetensors_header.h"
#include "runtime/text.h"

#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <new>
#include <sys/stat.h>
#include <utility>
#include <vector>

namespace moa {

namespace {

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

// Bytes of the UTF-8 character at the beginning of the text; 0 if there is none.
size_t character_bytes(std::string_view text) {
    const auto byte = [&](size_t at) { return at < text.size() ? static_cast<unsigned char>(text[at]) : 0U; };
    const unsigned first = byte(0);
    const size_t bytes = first < 0x80 ? 1 : (first >= 0xc2 && first < 0xe0 ? 2 : ((first & 0xf0) == 0xe0 ? 3 : (first >= 0xf0 && first < 0xf5 ? 4 : 0)));
    for (size_t at = 1; at < bytes; at++) {
        if ((byte(at) & 0xc0) != 0x80) {
            return 0;
        }
    }
    const unsigned second = byte(1);
    const bool too_long = (first == 0xe0 && second < 0xa0) || (first == 0xf0 && second < 0x90), surrogate = first == 0xed && second >= 0xa0;
    return too_long || surrogate || (first == 0xf4 && second >= 0x90) ? 0 : bytes;
}

// In JSON's quotes.
Result<std::string> quoted(std::string_view value) {
    std::string result = "\"";
    for (size_t bytes = 0; !value.empty(); value.remove_prefix(bytes)) {
        const auto first = static_cast<unsigned char>(value.front());
        bytes = character_bytes(value);
        if (bytes == 0) {
            return invalid("a name or metadata is not UTF-8: byte {:#x} after {}", first, result);
        }
        if (first == '"' || first == '\\') {
            result += '\\';
        }
        first < 0x20 ? result += text("\\u{:04x}", first) : result += value.substr(0, bytes);
    }
    return result + "\"";
}

// Adds a key and its value to the text of an object.
Status add(std::string &object, std::string_view key, std::string_view value) {
    const Result<std::string> name = quoted(key);
    if (name.ok()) {
        object += object.size() > 1 ? "," : "";
        object += *name + ":";
        object += value;
    }
    return name.status();
}

// Written piece by piece: nlohmann::json ends the process when memory runs out, since its destructors allocate.
Result<std::string> header_of(const TensorMap &tensors, const Metadata &metadata) {
    std::string header = "{";
    Status status;
    if (!metadata.empty()) {
        std::string strings = "{";
        for (const auto &[key, value] : metadata) {
            const Result<std::string> text = quoted(value);
            status = !status.ok() ? status : (text.ok() ? add(strings, key, *text) : text.status());
        }
        status = status.ok() ? add(header, safetensors::kMetadataKey, strings + "}") : status;
    }
    uint64_t at = 0;
    for (const auto &[name, tensor] : tensors) {
        status = status.ok() ? check(name, tensor) : status;
        if (!status.ok()) {
            return status;
        }
        const uint64_t bytes = static_cast<uint64_t>(tensor.elements()) * size_bytes(tensor.dtype);
        if (at + bytes < at) {
            return invalid("the tensors up to {} are larger than any file", name);
        }
        const std::span<const int64_t> shape(tensor.shape.data(), static_cast<size_t>(tensor.rank));
        status = add(header, name, text(R"({{"dtype":"{}","shape":{},"data_offsets":[{},{}]}})", safetensors::type_name(tensor.dtype), text_of(shape), at, at + bytes));
        at += bytes;
    }
    header += "}";
    header.resize((header.size() + 7) / 8 * 8, ' ');  // tensors begin aligned
    if (!status.ok()) {
        return status;
    }
    return header.size() <= safetensors::kMaxHeaderBytes ? Result<std::string>(std::move(header)) : invalid("a header of {} bytes is too long", header.size());
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

Status write_safetensors(const std::string &path, const TensorMap &tensors, const Metadata &metadata) try {
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
        return {error == ENOMEM ? Code::out_of_memory : Code::io_error, text("{}: {}", path, std::strerror(error))};
    }
    return {};
} catch (...) {
    return caught("write_safetensors");
}

}  // namespace moa
