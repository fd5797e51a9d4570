#include "workloads/shape.h"

#include "runtime/text.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>

namespace moa::workloads {

namespace {

constexpr size_t kLongestText = 256;

std::string names_of(std::span<const Key> keys) {
    std::string names;
    for (const Key &key : keys) {
        names += (names.empty() ? "" : " ") + std::string(key.name);
    }
    return names;
}

std::string printable(std::string_view token) {
    std::string result(token.substr(0, 40));
    std::replace_if(
        result.begin(), result.end(), [](char c) { return c < ' ' || c > '~'; }, '?');
    return result;
}

}  // namespace

Result<Shape> Shape::parse(std::span<const Key> keys, std::string_view text) {
    if (text.size() > kLongestText) {
        return invalid("shape '{}...' is longer than {} characters", printable(text), kLongestText);
    }
    Shape shape;
    shape.text_ = text;
    for (const Key &key : keys) {
        shape.values_.emplace_back(key.name, key.fallback);
    }
    std::vector<bool> given(keys.size());
    for (size_t begin = 0; begin < text.size() || (begin > 0 && begin == text.size());) {
        const size_t end = std::min(text.find('_', begin), text.size());
        const std::string_view token = text.substr(begin, end - begin);
        begin = end + 1;
        const size_t letters = std::min(token.find_first_not_of("abcdefghijklmnopqrstuvwxyz"), token.size());
        const auto key = std::find_if(keys.begin(), keys.end(),
                                      [&](const Key &k) { return k.name == token.substr(0, letters); });
        if (key == keys.end()) {
            return invalid("shape part '{}': no such name; there are: {}", printable(token), names_of(keys));
        }
        int64_t value = 1;
        const char *last = token.data() + token.size();
        if (letters < token.size()) {
            const auto [stop, error] = std::from_chars(token.data() + letters, last, value);
            if (error != std::errc() || stop != last || token[letters] == '-') {
                return invalid("shape part '{}': '{}' is no number in range", printable(token),
                               printable(token.substr(letters)));
            }
        }
        if (value < key->low || value > key->high) {
            return invalid("shape part '{}': {} must be {} to {}", printable(token), key->name, key->low,
                           key->high);
        }
        const size_t place = key - keys.begin();
        if (given[place]) {
            return invalid("shape part '{}': {} is given twice", printable(token), key->name);
        }
        given[place] = true;
        shape.values_[place].second = value;
    }
    return shape;
}

int64_t Shape::operator()(std::string_view name) const {
    for (const auto &[key, value] : values_) {
        if (key == name) {
            return value;
        }
    }
    std::abort();  // a workload asks for a name that it does not declare
}

}  // namespace moa::workloads
