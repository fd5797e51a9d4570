#include "runtime/layers/options.h"

#include "runtime/text.h"

#include <cmath>

namespace moa {

namespace {

// 2^20 rather than 1048576.
std::string size_text(int64_t value) {
    return value == kLargestSize ? "2^20" : std::to_string(value);
}

}  // namespace

void OptionCheck::refuse(const std::string &what) {
    if (status_.ok()) {
        status_ = invalid("{}: {}", layer_, what);
    }
}

OptionCheck &OptionCheck::integer(const char *name, int64_t value, int64_t least, int64_t most) {
    if (status_.ok() && (value < least || value > most)) {
        refuse(text("{} is {}, must be {} to {}", name, value, least, size_text(most)));
    }
    return *this;
}

OptionCheck &OptionCheck::number(const char *name, double value) {
    const auto used = static_cast<float>(value);
    if (status_.ok() && !std::isfinite(used)) {
        refuse(text("{} is {}{}, must be finite", name, value, std::isfinite(value) ? " (infinite as a float)" : ""));
    } else if (status_.ok() && used == 0 && value != 0) {
        refuse(text("{} is {}, which is 0 as a float", name, value));
    }
    return *this;
}

OptionCheck &OptionCheck::nonzero(const char *name, double value) {
    number(name, value);
    return that(value != 0, [&] { return text("{} must not be 0", name); });
}

OptionCheck &OptionCheck::positive(const char *name, double value) {
    number(name, value);
    return that(value > 0, [&] { return text("{} is {}, must be positive", name, value); });
}

OptionCheck &OptionCheck::at_least(const char *name, double value, double least) {
    number(name, value);
    return that(value >= least, [&] { return text("{} is {}, must be at least {}", name, value, least); });
}

OptionCheck &OptionCheck::matrix(const char *name, std::initializer_list<int64_t> sizes) {
    int64_t elements = 1;
    for (const int64_t size : sizes) {
        if (size < 1 || size > kLargestMatrix / elements) {
            return that(false, [&] { return text("{} of one expert would have more than 2^31 - 1 elements: {}", name, text_of({sizes.begin(), sizes.size()})); });
        }
        elements *= size;
    }
    return *this;
}

}  // namespace moa
