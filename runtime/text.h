#pragma once

#include "moa/status.h"

#define FMT_HEADER_ONLY 1
#include <cstdint>
#include <fmt/format.h>
#include <span>
#include <string>
#include <utility>

namespace moa {

template<class... Args>
std::string text(fmt::format_string<Args...> format, Args &&...args) {
    return fmt::format(format, std::forward<Args>(args)...);
}

template<class... Args>
Status invalid(fmt::format_string<Args...> format, Args &&...args) {
    return {Code::invalid_argument, fmt::format(format, std::forward<Args>(args)...)};
}

// "[2, 512, 128]"
inline std::string text_of(std::span<const int64_t> shape) {
    std::string result = "[";
    for (size_t axis = 0; axis < shape.size(); axis++) {
        result += fmt::format("{}{}", axis == 0 ? "" : ", ", shape[axis]);
    }
    return result + "]";
}

}  // namespace moa
