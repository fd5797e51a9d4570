#pragma once

#include "moa/status.h"

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>

namespace moa {

constexpr int64_t kLargestSize = int64_t{1} << 20;          // of a layer
constexpr int64_t kLargestMatrix = (int64_t{1} << 31) - 1;  // elements of an expert's weights of one product
constexpr int64_t kMostIterations = 4096;                   // of coordinate descent: each is a step of the plan
constexpr int64_t kLargestWindow = int64_t{1} << 20;        // of local attention
constexpr int64_t kFarthestLook = 64;                       // windows

// One check of options, by name. The first that is wrong sticks. Kernels take numbers as floats, so numbers are judged as
// floats: finite, and 0 only if the option is.
class OptionCheck {
public:
    explicit OptionCheck(std::string_view layer)
        : layer_(layer) {
    }

    OptionCheck &integer(const char *name, int64_t value, int64_t least, int64_t most);
    OptionCheck &number(const char *name, double value);
    OptionCheck &nonzero(const char *name, double value);
    OptionCheck &positive(const char *name, double value);
    OptionCheck &at_least(const char *name, double value, double least);
    OptionCheck &size(const char *name, int64_t value) {
        return integer(name, value, 1, kLargestSize);
    }
    // The weights of one product, of one expert: these sizes multiplied.
    OptionCheck &matrix(const char *name, std::initializer_list<int64_t> sizes);
    template<class Says>
    OptionCheck &that(bool holds, Says says) {
        if (status_.ok() && !holds) {
            refuse(says());
        }
        return *this;
    }
    const Status &status() const {
        return status_;
    }

private:
    void refuse(const std::string &what);

    std::string_view layer_;
    Status status_;
};

}  // namespace moa
