#pragma once

#include <cstddef>
#include <string>

namespace moa::codegen {

// How often `part` occurs in `text`.
inline size_t count(const std::string &text, const std::string &part) {
    size_t found = 0;
    for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + part.size())) {
        found++;
    }
    return found;
}

}  // namespace moa::codegen
