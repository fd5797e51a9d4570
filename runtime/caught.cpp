#include "runtime/caught.h"

#include "runtime/text.h"

#include <algorithm>
#include <cstdio>
#include <exception>

namespace moa {

namespace {

// A text so short lies in the string itself.
constexpr const char *kNoText = "out of memory";

// As much of the message as there is memory for.
Status status_of(Code code, std::string_view call, const char *what) noexcept {
    try {
        return {code, text("{}: {}", call, what)};
    } catch (...) {
        return {Code::out_of_memory, kNoText};
    }
}

}  // namespace

NoMemory::NoMemory(size_t bytes, std::string_view kind, std::string_view name) noexcept {
    constexpr size_t kLongest = 80;
    std::snprintf(text_.data(), text_.size(), "no memory for the %zu bytes of %.*s%s%.*s", bytes, static_cast<int>(std::min(kind.size(), kLongest / 2)), kind.data(),
                  name.empty() ? "" : " ", static_cast<int>(std::min(name.size(), kLongest)), name.data());
}

Status caught(std::string_view call) noexcept {
    try {
        throw;
    } catch (const NoMemory &error) {
        return status_of(Code::out_of_memory, call, error.what());
    } catch (const std::bad_alloc &) {
        return status_of(Code::out_of_memory, call, "out of memory");
    } catch (const std::length_error &) {
        return status_of(Code::out_of_memory, call, "out of memory: a size beyond what any memory holds");
    } catch (const std::exception &error) {
        return status_of(Code::internal, call, error.what());
    } catch (...) {
        return status_of(Code::internal, call, "an exception of unknown kind");
    }
}

}  // namespace moa
