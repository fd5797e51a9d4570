#pragma once

#include "moa/status.h"

#include <array>
#include <cstddef>
#include <new>
#include <stdexcept>
#include <string_view>

// The boundary for exceptions. Inside of the library memory may run out anywhere, by an exception; every public call ends with
//     } catch (...) {
//         return caught("Layer::call");
//     }
namespace moa {

// Memory that could not be had, and what it was for. Holds its text, since there may be no memory for one.
class NoMemory final : public std::bad_alloc {
public:
    NoMemory(size_t bytes, std::string_view kind, std::string_view name) noexcept;
    const char *what() const noexcept override {
        return text_.data();
    }

private:
    std::array<char, 160> text_{};
};

// make(), which allocates `bytes` for what is named: for allocations as large as the caller's sizes.
template<class Make>
auto with_memory(size_t bytes, std::string_view kind, std::string_view name, Make make) {
    try {
        return make();
    } catch (const std::bad_alloc &) {
        throw NoMemory(bytes, kind, name);
    } catch (const std::length_error &) {
        throw NoMemory(bytes, kind, name);
    }
}

// Within a catch clause: what was thrown, as the Status of the call.
Status caught(std::string_view call) noexcept;

}  // namespace moa
