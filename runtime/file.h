#pragma once

#include <cerrno>
#include <cstddef>
#include <unistd.h>
#include <utility>

namespace moa {

// An open file, closed at the end of its scope.
class File {
public:
    explicit File(int descriptor)
        : descriptor_(descriptor) {
    }
    ~File() {
        if (descriptor_ >= 0) {
            ::close(descriptor_);
        }
    }
    File(const File &) = delete;
    File &operator=(const File &) = delete;

    bool read(void *to, size_t bytes) const {
        auto *at = static_cast<char *>(to);
        while (bytes > 0) {
            const ssize_t got = ::read(descriptor_, at, bytes);
            if (got < 0 && errno == EINTR) {
                continue;
            }
            if (got <= 0) {
                return false;
            }
            at += got;
            bytes -= static_cast<size_t>(got);
        }
        return true;
    }
    bool write(const void *from, size_t bytes) const {
        const auto *at = static_cast<const char *>(from);
        while (bytes > 0) {
            const ssize_t put = ::write(descriptor_, at, bytes);
            if (put < 0 && errno == EINTR) {
                continue;
            }
            if (put <= 0) {
                return false;
            }
            at += put;
            bytes -= static_cast<size_t>(put);
        }
        return true;
    }
    bool close() {
        return ::close(std::exchange(descriptor_, -1)) == 0;
    }
    int descriptor() const {
        return descriptor_;
    }

private:
    int descriptor_;
};

}  // namespace moa
