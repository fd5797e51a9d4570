#pragma once

#include "runtime/elements.h"
#include "runtime/view.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

namespace moa::workloads {

// A workload's sizes that no case can have: too large, or contradicting each other. Caught by Workload::make.
struct ShapeError : std::runtime_error {
    using std::runtime_error::runtime_error;
};

using Extents = std::vector<int64_t>;  // innermost first

int64_t elements_of(const Extents &extents);

// Dense doubles: what reference loops compute with. Every dtype's values are exact in it.
struct Array {
    Extents extents;
    std::vector<double> data;

    Array() = default;
    explicit Array(Extents sizes, double value = 0);

    template<class... Index>
    double &operator()(Index... index) {
        return data[offset(index...)];
    }
    template<class... Index>
    double operator()(Index... index) const {
        return data[offset(index...)];
    }
    // Arrays without elements have a place, but nothing to refer to there.
    template<class... Index>
    double *at(Index... index) {
        return data.data() + offset(index...);
    }
    template<class... Index>
    const double *at(Index... index) const {
        return data.data() + offset(index...);
    }

private:
    template<class... Index>
    int64_t offset(Index... index) const {
        int64_t result = 0, stride = 1;
        size_t axis = 0;
        ((result += index * stride, stride *= extents[axis++]), ...);
        return result;
    }
};

// How a tensor lies in memory.
struct Layout {
    int64_t pad = 0;    // unused elements after every row (and every plane, ..)
    int64_t shift = 0;  // elements between a 64-byte boundary and the first element
    bool swap = false;  // axes 1 and 2 change places in memory
};

using moa::rounded_to;

// What a case puts where a number should be.
enum class NotFinite : uint8_t { nan,
                                 infinity,
                                 minus_infinity,
                                 full_nan };  // every bit but the sign is set: what GPUs give, and what rounding may carry into a zero

// Memory of an argument. Everything that is not an element (guards of 1 KiB at both ends, padding between
// rows) holds a pattern: a NaN for whoever reads it by mistake, and evidence when somebody writes there.
class Tensor {
public:
    Tensor(std::string name, DType dtype, Extents extents, const Layout &layout = {},
           uint32_t broadcast_axes = 0);

    const std::string &name() const {
        return name_;
    }
    DType dtype() const {
        return view_.dtype;
    }
    const Extents &extents() const {
        return extents_;
    }
    const View &view() const {
        return view_;
    }
    double size_bytes() const;  // of distinct elements
    // All of its memory, guards included.
    std::span<std::byte> storage() const {
        return {storage_.get(), storage_bytes_};
    }

    Array values() const;
    void assign(const Array &values);           // rounds to the dtype
    void spoil(int64_t place, NotFinite with);  // one element of floating point, counted as in a dense array
    void poison();                              // elements become the pattern too
    int64_t broken_guard_bytes() const;
    std::vector<std::byte> element_bytes() const;

private:
    template<class Visit>
    void for_each(Visit visit) const;
    std::byte *bytes() const {
        return static_cast<std::byte *>(view_.data);
    }

    std::string name_;
    Extents extents_;
    View view_;
    int64_t distinct_ = 1;
    size_t storage_bytes_ = 0;
    struct Free {
        void operator()(std::byte *memory) const;
    };
    std::unique_ptr<std::byte[], Free> storage_;
};

}  // namespace moa::workloads
