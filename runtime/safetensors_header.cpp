#include "runtime/safetensors_header.h"

#include "runtime/text.h"

#include <algorithm>
#include <array>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

namespace moa::safetensors {

namespace {

using Json = nlohmann::json;

constexpr std::array<std::pair<std::string_view, DType>, 7> kTypes{
    {{"F32", DType::f32}, {"F64", DType::f64}, {"BF16", DType::bf16}, {"I32", DType::i32}, {"I64", DType::i64}, {"U8", DType::u8}, {"BOOL", DType::boolean}}};

std::string shortened(std::string_view name) {
    constexpr size_t kLength = 200;
    return name.size() <= kLength ? std::string(name) : std::string(name.substr(0, kLength)) + "...";
}

// Takes the header event by event and stops at the first that does not belong: no tree is built, so neither depth nor
// size of what a file makes up costs memory.
class Reader : public Json::json_sax_t {
public:
    explicit Reader(uint64_t data_bytes)
        : data_bytes_(data_bytes) {
    }

    bool key(std::string &name) override {
        if (level_ == Level::top) {
            if (name == kMetadataKey) {
                return !std::exchange(metadata_seen_, true) ? next(Level::metadata) : refuse("{} is there twice", kMetadataKey);
            }
            header_.entries.emplace_back().name = name;
            seen_dtype_ = seen_shape_ = false;
            offsets_ = 0;
            return next(Level::tensor);
        }
        if (level_ == Level::in_metadata) {
            metadata_key_ = name;
            return !header_.metadata.contains(name) || refuse("{} has {} twice", kMetadataKey, shortened(name));
        }
        if (level_ == Level::in_tensor && name == "dtype" && !std::exchange(seen_dtype_, true)) {
            return next(Level::dtype);
        }
        if (level_ == Level::in_tensor && name == "shape" && !std::exchange(seen_shape_, true)) {
            return next(Level::shape);
        }
        if (level_ == Level::in_tensor && name == "data_offsets" && offsets_ == 0) {
            return next(Level::offsets);
        }
        return refuse_tensor("has {}, or has it twice; dtype, shape and data_offsets are what belongs there", shortened(name));
    }
    bool start_object(std::size_t /*elements*/) override {
        switch (level_) {
        case Level::outside:
            return next(Level::top);
        case Level::metadata:
            return next(Level::in_metadata);
        case Level::tensor:
            return next(Level::in_tensor);
        default:
            return misplaced("an object");
        }
    }
    bool end_object() override {
        if (level_ == Level::in_tensor) {
            return next(Level::top) && finish();
        }
        return next(level_ == Level::in_metadata ? Level::top : Level::outside);
    }
    bool start_array(std::size_t /*elements*/) override {
        if (level_ == Level::shape || level_ == Level::offsets) {
            return next(level_ == Level::shape ? Level::in_shape : Level::in_offsets);
        }
        return misplaced("an array");
    }
    bool end_array() override {
        return next(Level::in_tensor);
    }
    bool string(std::string &value) override {
        if (level_ == Level::in_metadata) {
            header_.metadata.emplace(std::move(metadata_key_), std::move(value));
            return true;
        }
        if (level_ != Level::dtype) {
            return misplaced("a string");
        }
        const auto *known = std::find_if(kTypes.begin(), kTypes.end(), [&](const auto &type) { return type.first == value; });
        if (known == kTypes.end()) {
            refuse_tensor("has dtype {}, not one of F32, F64, BF16, I32, I64, U8, BOOL", shortened(value));
            status_ = Status(Code::unsupported, status_.message());
            return false;
        }
        header_.entries.back().dtype = known->second;
        return next(Level::in_tensor);
    }
    bool number_unsigned(number_unsigned_t value) override {
        Entry *entry = header_.entries.empty() ? nullptr : &header_.entries.back();
        if (level_ == Level::in_shape && value <= static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
            entry->shape.push_back(static_cast<int64_t>(value));
            return entry->shape.size() <= kMaxRank || refuse_tensor("has more than {} axes", kMaxRank);
        }
        if (level_ == Level::in_offsets && offsets_ < 2) {
            (offsets_++ == 0 ? entry->begin : entry->end) = value;
            return true;
        }
        return misplaced(std::to_string(value));
    }
    bool number_integer(number_integer_t value) override {
        return misplaced(std::to_string(value));
    }
    bool number_float(number_float_t /*value*/, const std::string &spelled) override {
        return misplaced(shortened(spelled));
    }
    bool null() override {
        return misplaced("null");
    }
    bool boolean(bool value) override {
        return misplaced(value ? "true" : "false");
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
                                 in_offsets };

    bool next(Level level) {
        level_ = level;
        return true;
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
    // The entry is complete, and its offsets hold what its shape says.
    bool finish() {
        const Entry &entry = header_.entries.back();
        if (!seen_dtype_ || !seen_shape_ || offsets_ != 2) {
            return refuse_tensor("lacks its dtype, its shape or one of two data_offsets");
        }
        uint64_t bytes = size_bytes(entry.dtype);
        for (const int64_t extent : entry.shape) {
            if (__builtin_mul_overflow(bytes, static_cast<uint64_t>(extent), &bytes)) {
                return refuse_tensor("of shape {} is larger than any memory", text_of(entry.shape));
            }
        }
        if (entry.begin > entry.end || entry.end > data_bytes_ || entry.end - entry.begin != bytes) {
            return refuse_tensor("has data_offsets [{}, {}], which are not {} bytes for {} {} within the {} of the file", entry.begin, entry.end, bytes,
                                 type_name(entry.dtype), text_of(entry.shape), data_bytes_);
        }
        return true;
    }

    uint64_t data_bytes_;
    Header header_;
    Status status_;
    Level level_ = Level::outside;
    std::string metadata_key_;
    bool metadata_seen_ = false, seen_dtype_ = false, seen_shape_ = false;
    int offsets_ = 0;
};

Status check_names(const std::vector<Entry> &entries) {
    std::vector<std::string_view> names;
    names.reserve(entries.size());
    for (const Entry &entry : entries) {
        names.push_back(entry.name);
    }
    std::sort(names.begin(), names.end());
    const auto twice = std::adjacent_find(names.begin(), names.end());
    return twice == names.end() ? Status() : invalid("tensor {} is there twice", shortened(*twice));
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
    return at == data_bytes ? Status() : invalid("the tensors end at {}, the data of the file at {}", at, data_bytes);
}

}  // namespace

std::string_view type_name(DType dtype) {
    return std::find_if(kTypes.begin(), kTypes.end(), [&](const auto &type) { return type.second == dtype; })->first;
}

Result<Header> parse_header(std::string_view text, uint64_t data_bytes) {
    if (text.empty() || text.front() != '{') {
        return invalid("the header does not begin with {{");
    }
    Reader reader(data_bytes);
    if (!Json::sax_parse(text.begin(), text.end(), &reader)) {
        return reader.status().ok() ? invalid("the header is no JSON object") : reader.status();
    }
    Header header = reader.take();
    Status status = check_names(header.entries);
    status = status.ok() ? check_cover(header.entries, data_bytes) : status;
    return status.ok() ? Result<Header>(std::move(header)) : Result<Header>(std::move(status));
}

}  // namespace moa::safetensors
