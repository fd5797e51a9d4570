#pragma once

#include "moa/export.h"

#include <cassert>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace moa {

enum class Code {
    ok,
    invalid_argument,  // the caller's tensors, sizes or options contradict each other or the layer
    unsupported,       // valid, but no row that was built accepts it on this device
    not_found,         // a file, a tensor or a row of that name
    io_error,          // reading or writing failed; files are left as they were
    out_of_memory,
    device_error,  // the GPU or its driver failed
    internal,      // a broken promise of this library: please report it
};

MOA_EXPORT std::string_view name_of(Code code);

// What every public call that can fail returns. The message carries the offending names and values. No call throws. If
// memory runs out, the code is out_of_memory, the message says what it was for where that is known, and everything stays usable; what
// returns text without a Status gives "(no memory)" then.
class [[nodiscard]] Status {
public:
    Status() = default;
    Status(Code code, std::string message)
        : code_(code), message_(std::move(message)) {
    }

    bool ok() const {
        return code_ == Code::ok;
    }
    explicit operator bool() const {
        return ok();
    }
    Code code() const {
        return code_;
    }
    const std::string &message() const {
        return message_;
    }

private:
    Code code_ = Code::ok;
    std::string message_;
};

// A value, or the Status that says why there is none.
template<class T>
class [[nodiscard]] Result {
public:
    Result(T value)
        : value_(std::move(value)) {
    }
    Result(Status status)
        : status_(std::move(status)) {
        assert(!status_.ok());
    }

    bool ok() const {
        return value_.has_value();
    }
    explicit operator bool() const {
        return ok();
    }
    const Status &status() const {
        return status_;
    }
    T &value() & {
        assert(ok());
        return *value_;
    }
    const T &value() const & {
        assert(ok());
        return *value_;
    }
    T &&value() && {
        assert(ok());
        return *std::move(value_);
    }
    T &operator*() & {
        return value();
    }
    const T &operator*() const & {
        return value();
    }
    T *operator->() {
        return &value();
    }
    const T *operator->() const {
        return &value();
    }

private:
    std::optional<T> value_;
    Status status_;
};

}  // namespace moa
