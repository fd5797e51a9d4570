#pragma once

#include "moa/rows.h"
#include "moa/status.h"
#include "runtime/text.h"
#include "runtime/view.h"

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <string_view>
#include <utility>

namespace moa::ops {

// What a wrapper checks before a kernel may run, written as a list of facts. The first contradiction sticks.
class Check {
public:
    Check(const Row &row, const Problem &problem)
        : op_(row.op) {
        if (row.op != problem.op) {
            status_ = invalid("row {} is one of {}, not of {}", row.name, row.op, problem.op);
        }
        for (const Parameter &parameter : row.statics) {
            const int64_t *value = problem.find(parameter.name);
            that(parameter.name != "aligned" || value == nullptr || *value == parameter.value, "row {} needs rows that begin at multiples of 16 bytes", row.name);
            that(value == nullptr || *value == parameter.value, "row {} is for {} {}, not {}", row.name, parameter.name, parameter.value, value == nullptr ? 0 : *value);
        }
    }
    Check &rank(const char *name, const View &view, int wanted) {
        if (status_.ok() && view.rank != wanted) {
            status_ = invalid("{}: {} has {} axes, not {}", op_, name, view.rank, wanted);
        }
        return *this;
    }
    Check &extents(const char *name, const View &view, std::initializer_list<int64_t> wanted) {
        rank(name, view, static_cast<int>(wanted.size()));
        int axis = 0;
        for (const int64_t extent : wanted) {
            if (status_.ok() && view.extent(axis) != extent) {
                status_ = invalid("{}: axis {} of {} is {}, not {}", op_, axis, name, view.extent(axis), extent);
            }
            axis++;
        }
        return *this;
    }
    // An input: axes of extent 1 and stride 0 are stretched to what is wanted. So are the views that say "absent".
    Check &input(const char *name, View &view, std::initializer_list<int64_t> wanted) {
        int axis = 0;
        for (const int64_t extent : wanted) {
            if (axis < view.rank && view.axes[axis].extent == 1 && view.axes[axis].stride == 0) {
                view.axes[axis].extent = extent;
            }
            axis++;
        }
        return extents(name, view, wanted);
    }
    template<class... Values>
    Check &that(bool holds, fmt::format_string<Values...> what, Values &&...values) {
        if (status_.ok() && !holds) {
            status_ = invalid("{}: {}", op_, fmt::format(what, std::forward<Values>(values)...));
        }
        return *this;
    }
    const Status &status() const {
        return status_;
    }

private:
    std::string_view op_;
    Status status_;
};

inline bool nothing(const View &out) {
    return std::any_of(out.axes.begin(), out.axes.begin() + out.rank, [](const Axis &axis) { return axis.extent == 0; });
}

inline int32_t i(bool value) {
    return value ? 1 : 0;
}

}  // namespace moa::ops
