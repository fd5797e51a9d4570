#include "workloads/tensor.h"

#include "moa/huge_pages.h"
#include "runtime/text.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <new>
#include <utility>

namespace moa::workloads {

namespace {

constexpr size_t kGuardBytes = 1024, kAlignment = 64;
constexpr int64_t kMostElements = std::numeric_limits<int32_t>::max();  // what kernels index

// A NaN in f32 and, at even addresses, in bf16 and f16; no index, slot or boolean either.
constexpr unsigned char kPattern[2] = {0xcb, 0x7f};

std::byte pattern(size_t place) {
    return std::byte{kPattern[place & 1]};
}

}  // namespace

int64_t elements_of(const Extents &extents) {
    int64_t elements = 1;
    for (const int64_t extent : extents) {
        if (extent != 0 && elements > kMostElements / extent) {
            throw ShapeError(text("{} (innermost first) has more than 2^31 - 1 elements", text_of(extents)));
        }
        elements *= extent;
    }
    return elements;
}

Array::Array(Extents sizes, double value)
    : extents(std::move(sizes)), data(elements_of(extents), value) {
}

void Tensor::Free::operator()(std::byte *memory) const {
    ::operator delete[](memory, std::align_val_t(kAlignment));
}

Tensor::Tensor(std::string name, DType dtype, Extents extents, const Layout &layout, uint32_t broadcast_axes)
    : name_(std::move(name)), extents_(std::move(extents)) {
    view_.dtype = dtype;
    view_.rank = static_cast<int>(extents_.size());
    std::vector<int> order(view_.rank);
    for (int axis = 0; axis < view_.rank; axis++) {
        order[axis] = axis;
    }
    if (layout.swap && view_.rank > 2) {
        std::swap(order[1], order[2]);
    }
    int64_t span = 1;
    Extents padded;
    for (const int axis : order) {
        const bool broadcast = (broadcast_axes >> axis & 1) != 0;
        view_.axes[axis] = {extents_[axis], broadcast ? 0 : span};
        if (!broadcast) {
            distinct_ *= extents_[axis];
            padded = {span, std::max<int64_t>(extents_[axis], 1)};
            span = elements_of(padded) + layout.pad;
        }
    }
    elements_of(extents_);
    storage_bytes_ = 2 * kGuardBytes + (span + layout.shift) * moa::size_bytes(dtype);
    storage_.reset(new (std::align_val_t(kAlignment)) std::byte[storage_bytes_]);
    prefer_huge_pages({storage_.get(), storage_bytes_});
    for (size_t place = 0; place < storage_bytes_; place++) {
        storage_[place] = pattern(place);
    }
    view_.data = storage_.get() + kGuardBytes + layout.shift * moa::size_bytes(dtype);
}

double Tensor::size_bytes() const {
    return static_cast<double>(distinct_) * static_cast<double>(moa::size_bytes(dtype()));
}

// Calls visit(element's bytes) in the order of a dense array.
template<class Visit>
void Tensor::for_each(Visit visit) const {
    const size_t size = moa::size_bytes(dtype());
    std::array<int64_t, kMaxRank> index{};
    const int64_t elements = elements_of(extents_);
    std::byte *element = bytes();
    for (int64_t done = 0; done < elements; done++) {
        visit(element);
        for (int axis = 0; axis < view_.rank; axis++) {
            const auto stride = view_.axes[axis].stride * static_cast<int64_t>(size);
            element += stride;
            if (++index[axis] < extents_[axis]) {
                break;
            }
            element -= stride * extents_[axis];
            index[axis] = 0;
        }
    }
}

Array Tensor::values() const {
    Array result(extents_);
    double *to = result.data.data();
    for_each([&](const std::byte *element) { *to++ = load_element(dtype(), element); });
    return result;
}

void Tensor::assign(const Array &values) {
    if (values.extents != extents_) {
        throw ShapeError(
            text("{}: values of {} for a tensor of {}", name_, text_of(values.extents), text_of(extents_)));
    }
    const double *from = values.data.data();
    for_each([&](std::byte *element) { store_element(dtype(), element, *from++); });
}

void Tensor::spoil(int64_t place, NotFinite with) {
    constexpr double kInfinity = std::numeric_limits<double>::infinity();
    const size_t size = moa::size_bytes(dtype());
    for_each([&](std::byte *element) {
        if (place-- != 0) {
            return;
        }
        if (with == NotFinite::full_nan) {
            std::fill_n(element, size, std::byte{0xff});
            element[size - 1] = std::byte{0x7f};
        } else {
            store_element(dtype(), element, with == NotFinite::nan ? std::numeric_limits<double>::quiet_NaN() : (with == NotFinite::infinity ? kInfinity : -kInfinity));
        }
    });
}

void Tensor::poison() {
    for_each([&](std::byte *element) {
        for (size_t i = 0; i < moa::size_bytes(dtype()); i++) {
            element[i] = pattern(element + i - storage_.get());
        }
    });
}

int64_t Tensor::broken_guard_bytes() const {
    std::vector<bool> element_byte(storage_bytes_);
    for_each([&](const std::byte *element) {
        for (size_t i = 0; i < moa::size_bytes(dtype()); i++) {
            element_byte[element + i - storage_.get()] = true;
        }
    });
    int64_t broken = 0;
    for (size_t place = 0; place < storage_bytes_; place++) {
        broken += !element_byte[place] && storage_[place] != pattern(place) ? 1 : 0;
    }
    return broken;
}

std::vector<std::byte> Tensor::element_bytes() const {
    const size_t size = moa::size_bytes(dtype());
    std::vector<std::byte> result(elements_of(extents_) * size);
    std::byte *to = result.data();
    for_each([&](const std::byte *element) {
        std::memcpy(to, element, size);
        to += size;
    });
    return result;
}

}  // namespace moa::workloads
