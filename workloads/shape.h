#pragma once

#include "moa/status.h"

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace moa::workloads {

// A size or an option of an operation's shape.
struct Key {
    std::string_view name;  // lower-case letters
    int64_t fallback, low, high;
    std::string_view meaning;
};

// Sizes and options by name. In text, names with their values joined by underscores:
// "rows1024_in512_e2_gather_rms". A name without a value means 1, a name that is left out its fallback.
class Shape {
public:
    static Result<Shape> parse(std::span<const Key> keys, std::string_view text);

    int64_t operator()(std::string_view name) const;
    bool has(std::string_view name) const {
        return (*this)(name) != 0;
    }
    const std::string &text() const {
        return text_;
    }

private:
    std::string text_;
    std::vector<std::pair<std::string_view, int64_t>> values_;  // every key
};

}  // namespace moa::workloads
