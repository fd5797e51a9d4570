#include "runtime/safetensors_header.h"

#include "runtime/text.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

namespace moa::safetensors {

namespace {

using Json = nlohmann::json;

std::string shortened(std::string_view name) {
    constexpr size_t kLength = 200;
    return name.size() <= kLength ? std::string(name) : std::string(name.substr(0, kLength)) + "...";
}

// Takes the header event by event and stops at the first that does not belong: no tree is built, so neither depth nor
// size of what a file makes up costs memory. Values that nobody knows are skipped.
class Reader : public Json::json_sax_t {
public:
    bool key(std::string &name) override {
        if (skipped_ > 0) {
            return true;
        }
        if (level_ == Level::top) {
            if (name == kMetadataKey) {
                return !std::exchange(metadata_seen_, true) ? next(Level::metadata) : refuse("{} is there twice", kMetadataKey);
            }
            header_.entries.emplace_back().name = name;
            seen_ = {};
            return next(Level::tensor);
        }
        if (level_ == Level::in_metadata) {
            metadata_key_ = name;
            return true;
        }
        if (name != "dtype" && name != "shape" && name != "data_offsets") {
            return next(Level::unknown);
        }
        bool &seen = name == "dtype" ? seen_.dtype : (name == "shape" ? seen_.shape : seen_.offsets);
        if (std::exchange(seen, true)) {
            return refuse_tensor("has its {} twice", name);
        }
        return next(name == "dtype" ? Level::dtype : (name == "shape" ? Level::shape : Level::offsets));
    }
    bool start_object(std::size_t /*elements*/) override {
        switch (level_) {
        case Level::outside:
            return next(Level::top);
        case Level::metadata:
            return next(Level::in_metadata);
        case Level::tensor:
            return next(Level::in_tensor);
        case Level::unknown:
            return skip_into();
        default:
            return misplaced("an object");
        }
    }
    bool end_object() override {
        if (level_ == Level::unknown) {
            return skip_out();
        }
        if (level_ == Level::in_tensor) {
            return complete() && next(Level::top);
        }
        return next(level_ == Level::in_metadata ? Level::top : Level::outside);
    }
    bool start_array(std::size_t /*elements*/) override {
        if (level_ == Level::unknown) {
            return skip_into();
        }
        if (level_ == Level::shape || level_ == Level::offsets) {
            return next(level_ == Level::shape ? Level::in_shape : Level::in_offsets);
        }
        return misplaced("an array");
    }
    bool end_array() override {
        return level_ == Level::unknown ? skip_out() : next(Level::in_tensor);
    }
    bool string(std::string &value) override {
        if (level_ == Level::in_metadata) {
            header_.metadata[std::move(metadata_key_)] = std::move(value);
            return true;
        }
        if (level_ != Level::dtype) {
            return scalar("a string");
        }
        const Type *type = find_type(value);
        if (type == nullptr) {
            return refuse_tensor("has dtype {}, which the format does not have", value.empty() ? "''" : shortened(value));
        }
        header_.entries.back().type = type;
        return next(Level::in_tensor);
    }
    bool number_unsigned(number_unsigned_t value) override {
        if (level_ == Level::in_shape) {
            header_.entries.back().shape.push_back(value);
            return true;
        }
        if (level_ == Level::in_offsets && seen_.numbers < 2) {
            Entry &entry = header_.entries.back();
            (seen_.numbers++ == 0 ? entry.begin : entry.end) = value;
            return true;
        }
        return scalar(std::to_string(value));
    }
    bool number_integer(number_integer_t value) override {
        return scalar(std::to_string(value));
    }
    bool number_float(number_float_t /*value*/, const std::string &spelled) override {
        return scalar(shortened(spelled));
    }
    bool null() override {
        return level_ == Level::metadata ? next(Level::top) : scalar("null");
    }
    bool boolean(bool value) override {
        return scalar(value ? "true" : "false");
    }
    bool binary(Json::binary_t & /*value*/) override {
        return misplaced("binary data");
    }
    bool parse_error(std::size_t position, const std::string & /*token*/, const nlohmann::detail::exception & /*error*/) override {
        return refuse("the header is no JSON object (at byte {})", position);
    }

    const Status &status() const {
        return status_;
    }
    Header take() {
        return std::move(header_);
    }

private:
    enum class Level : uint8_t { outside,
                                 top,
                                 metadata,
                                 in_metadata,
                                 tensor,
                                 in_tensor,
                                 dtype,
                                 shape,
                                 in_shape,
                                 offsets,
                                 in_offsets,
                                 unknown };

    bool next(Level level) {
        level_ = level;
        return true;
    }
    // What is skipped lies two objects deep, and the reference reader goes no deeper than 127.
    bool skip_into() {
        return ++skipped_ <= 125 || refuse_tensor("has lists or objects more than 127 deep");
    }
    bool skip_out() {
        return --skipped_ > 0 || next(Level::in_tensor);
    }
    bool scalar(std::string_view what) {
        if (level_ != Level::unknown) {
            return misplaced(what);
        }
        return skipped_ > 0 || next(Level::in_tensor);
    }
    template<class... Args>
    bool refuse(fmt::format_string<Args...> format, Args &&...args) {
        status_ = invalid(format, std::forward<Args>(args)...);
        return false;
    }
    template<class... Args>
    bool refuse_tensor(fmt::format_string<Args...> format, Args &&...args) {
        return refuse("tensor {} {}", shortened(header_.entries.back().name), fmt::format(format, std::forward<Args>(args)...));
    }
    bool misplaced(std::string_view what) {
        if (level_ == Level::metadata || level_ == Level::in_metadata) {
            return refuse("{} must map strings to strings, not to {}", kMetadataKey, what);
        }
        if (level_ == Level::outside || header_.entries.empty()) {
            return refuse("the header is {}, not a JSON object", what);
        }
        const bool shape = level_ == Level::shape || level_ == Level::in_shape;
        return refuse_tensor("has {} in its {}", what, level_ == Level::tensor ? "entry" : level_ == Level::dtype ? "dtype"
                                                                                       : shape                    ? "shape"
                                                                                                                  : "data_offsets");
    }
    bool complete() {
        if (!seen_.dtype || !seen_.shape || seen_.numbers != 2) {
            return refuse_tensor("lacks its dtype, its shape or one of two data_offsets");
        }
        return true;
    }

    struct Seen {  // of the entry that is being read
        bool dtype = false, shape = false, offsets = false;
        int numbers = 0;
    };

    Header header_;
    Status status_;
    Level level_ = Level::outside;
    Seen seen_;
    int skipped_ = 0;  // lists and objects of an unknown key that are open
    std::string metadata_key_;
    bool metadata_seen_ = false;
};

// Keeps the last of each name, and gives one of those that were there twice.
std::string keep_last(std::vector<Entry> &entries) {
    std::string twice;
    std::stable_sort(entries.begin(), entries.end(), [](const Entry &a, const Entry &b) { return a.name < b.name; });
    size_t kept = 0;
    for (size_t i = 0; i < entries.size(); i++) {
        if (i + 1 == entries.size() || entries[i].name != entries[i + 1].name) {
            std::swap(entries[kept++], entries[i]);
        } else {
            twice = entries[i].name;
        }
    }
    entries.resize(kept);
    return twice;
}

Status check_size(const Entry &entry) {
    uint64_t elements = 1, bits = 0;
    bool fits = true;
    for (const uint64_t extent : entry.shape) {
        fits = fits && !__builtin_mul_overflow(elements, extent, &elements);
    }
    if (!fits || __builtin_mul_overflow(elements, static_cast<uint64_t>(entry.type->bits), &bits)) {
        return invalid("tensor {} of {} is larger than any memory", shortened(entry.name), entry.describe());
    }
    if (bits % 8 != 0 || entry.begin > entry.end || entry.end - entry.begin != bits / 8) {
        return invalid("tensor {} has data_offsets [{}, {}], which are not the {} bits ({} bytes) of {}", shortened(entry.name), entry.begin, entry.end, bits, bits / 8,
                       entry.describe());
    }
    return {};
}

Status check_sizes(const std::vector<Entry> &entries) {
    for (const Entry &entry : entries) {
        if (Status status = check_size(entry); !status) {
            return status;
        }
    }
    return {};
}

Status check_cover(std::vector<Entry> &entries, uint64_t data_bytes) {
    std::sort(entries.begin(), entries.end(), [](const Entry &a, const Entry &b) { return std::pair(a.begin, a.end) < std::pair(b.begin, b.end); });
    uint64_t at = 0;
    for (const Entry &entry : entries) {
        if (entry.begin != at) {
            return invalid("tensor {} begins at {}: {} with what ends at {}", shortened(entry.name), entry.begin, entry.begin < at ? "an overlap" : "a hole", at);
        }
        at = entry.end;
    }
    if (at != data_bytes) {
        return invalid("the tensors end at {}, the data of the file at {}{}", at, data_bytes, at > data_bytes ? ": it is cut short" : "");
    }
    return {};
}

}  // namespace

Result<Header> parse_header(std::string_view text, uint64_t data_bytes) {
    constexpr std::string_view kSpace(" \t\r\n");
    const size_t first = text.find_first_not_of(kSpace);
    if (first == std::string_view::npos || text[first] != '{' || text.find('\0') != std::string_view::npos) {
        return invalid("the header is no JSON object{}", first != std::string_view::npos && text[first] == '{' ? ": it has a byte of 0" : ": it does not begin with {");
    }
    Reader reader;
    if (!Json::sax_parse(text.begin(), text.end(), &reader)) {
        return reader.status().ok() ? invalid("the header is no JSON object") : reader.status();
    }
    Header header = reader.take();
    const std::string twice = keep_last(header.entries);
    Status status = check_sizes(header.entries);
    status = status.ok() ? check_cover(header.entries, data_bytes) : status;
    if (!status.ok()) {
        return twice.empty() ? status : invalid("{} (tensor {} is there twice: the last counts)", status.message(), shortened(twice));
    }
    return header;
}

}  // namespace moa::safetensors
