#include "runtime/arguments.h"

#include "runtime/text.h"

#include <algorithm>
#include <array>
#include <limits>

namespace moa {

namespace {

constexpr int64_t kLargest = std::numeric_limits<int32_t>::max();  // elements that kernels index

bool same_dtype(DType one, DType two) {
    return one == two || (is_mask(one) && is_mask(two));
}

std::string names_of(std::span<const DType> dtypes) {
    std::string names;
    for (size_t i = 0; i < dtypes.size(); i++) {
        names += text("{}{}", i == 0 ? "" : (i + 1 == dtypes.size() ? " or " : ", "), name_of(dtypes[i]));
    }
    return names;
}

// "its dtype is bf16, not f32; its axis 1 is 5, not 3"
std::string differences(const WantedTensor &wanted, const TensorView &given) {
    std::string result;
    const auto add = [&](const std::string &difference) { result += (result.empty() ? "its " : "; its ") + difference; };
    if (std::none_of(wanted.dtypes.begin(), wanted.dtypes.end(), [&](DType dtype) { return same_dtype(dtype, given.dtype); })) {
        add(text("dtype is {}, not {}", name_of(given.dtype), names_of(wanted.dtypes)));
    }
    const bool same_rank = given.rank == static_cast<int>(wanted.shape.size());
    if (!same_rank) {
        add(text("rank is {}, not {}", given.rank, wanted.shape.size()));
    }
    for (int axis = 0; same_rank && axis < given.rank; axis++) {
        if (given.shape[axis] != wanted.shape[axis]) {
            add(text("axis {} is {}, not {}", axis, given.shape[axis], wanted.shape[axis]));
        }
    }
    if (given.device != wanted.device) {
        add(text("device is {}, not {}", name_of(given.device), name_of(wanted.device)));
    }
    return result;
}

// The axes that lead anywhere, in bytes, shortest stride first.
struct Steps {
    struct Step {
        int64_t stride, count;
    };
    std::array<Step, kMaxRank> steps{};
    int count = 0;
    int64_t size;  // of an element

    explicit Steps(const TensorView &tensor)
        : size(static_cast<int64_t>(size_bytes(tensor.dtype))) {
        for (int axis = 0; axis < tensor.rank; axis++) {
            if (tensor.shape[axis] > 1) {
                steps[count++] = {tensor.strides[axis] * size, tensor.shape[axis]};
            }
        }
        std::sort(steps.begin(), steps.begin() + count, [](const Step &a, const Step &b) { return a.stride < b.stride; });
    }
    std::span<const Step> list() const {
        return {steps.data(), static_cast<size_t>(count)};
    }
    // Bytes from the first of an element to the last of another that steps within one pitch lead to.
    int64_t reach(int64_t pitch) const {
        int64_t bytes = size;
        for (const Step &step : list()) {
            bytes += step.stride % pitch == 0 ? 0 : step.stride * (step.count - 1);
        }
        return bytes;
    }
};

// Modulo the pitch each tensor lies in one interval: they are apart if the intervals are.
bool apart_by_columns(const Steps &one, const Steps &two, int64_t distance, int64_t pitch) {
    const int64_t first = one.reach(pitch), second = two.reach(pitch), begin = (distance % pitch + pitch) % pitch;
    return first <= begin && begin + second <= pitch;
}

}  // namespace

bool is_mask(DType dtype) {
    return dtype == DType::boolean || dtype == DType::u8;
}

Status check_kind(const WantedTensor &wanted, const TensorView &given) {
    const std::string wrong = differences(wanted, given);
    return wrong.empty() ? Status()
                         : invalid("{}: {} wants {} {} on {}, not {}: {}", wanted.name, wanted.owner, names_of(wanted.dtypes), text_of(wanted.shape), name_of(wanted.device),
                                   given.describe(), wrong);
}

Status check_memory(std::string_view name, const TensorView &given) {
    if (given.elements() == 0) {
        return {};
    }
    if (given.data == nullptr) {
        return invalid("{}: no memory (null data)", name);
    }
    if (reinterpret_cast<uintptr_t>(given.data) % size_bytes(given.dtype) != 0) {
        return invalid("{}: its address is not aligned to {} bytes", name, size_bytes(given.dtype));
    }
    int64_t last = 0, bytes = 0;
    for (int axis = 0; axis < given.rank; axis++) {
        if (given.shape[axis] <= 1) {
            continue;  // leads nowhere
        }
        int64_t step = 0;
        if (given.strides[axis] < 0) {
            return invalid("{}: stride {} of axis {} is negative", name, given.strides[axis], axis);
        }
        if (__builtin_mul_overflow(given.shape[axis] - 1, given.strides[axis], &step) || __builtin_add_overflow(last, step, &last)) {
            return invalid("{}: {} reaches beyond any memory", name, given.describe());
        }
    }
    uintptr_t end = 0;
    const bool fits = last < std::numeric_limits<int64_t>::max() && !__builtin_mul_overflow(last + 1, static_cast<int64_t>(size_bytes(given.dtype)), &bytes) &&
                      !__builtin_add_overflow(reinterpret_cast<uintptr_t>(given.data), static_cast<uintptr_t>(bytes), &end);
    return fits ? Status() : invalid("{}: {} reaches beyond any memory", name, given.describe());
}

Status check_strides(std::string_view name, const TensorView &given, bool output) {
    if (given.elements() == 0) {
        return {};
    }
    int64_t reach = 0;
    for (int axis = 0; axis < given.rank; axis++) {
        const int64_t count = given.shape[axis], stride = given.strides[axis];
        if (count > 1 && (stride > kLargest / count || (reach += (count - 1) * stride) >= kLargest)) {
            return invalid("{}: {} spans more than 2^31 - 1 elements, which no kernel indexes", name, given.describe());
        }
        if (output && count > 1 && stride == 0) {
            return invalid("{}: an output's axis {} of size {} has stride 0", name, axis, count);
        }
    }
    const int inner = given.rank - 1;
    if (given.rank > 0 && given.shape[inner] > 1 && given.strides[inner] != 1 && !(given.strides[inner] == 0 && !output && is_mask(given.dtype))) {
        return invalid("{}: the innermost stride is {}, must be 1", name, given.strides[inner]);
    }
    if (output && may_overlap_itself(given)) {
        return invalid("{}: an output's elements share memory: {}", name, given.describe());
    }
    return {};
}

TensorView with_plain_strides(const TensorView &given) {
    if (given.elements() == 0) {
        return {given.data, given.dtype, std::span<const int64_t>(given.shape.data(), static_cast<size_t>(given.rank)), given.device};
    }
    TensorView plain = given;
    int64_t next = 1;
    for (int axis = given.rank - 1; axis >= 0; axis--) {
        plain.strides[axis] = given.shape[axis] > 1 ? given.strides[axis] : next;
        next = std::min(plain.strides[axis] * std::max<int64_t>(given.shape[axis], 1), kLargest);
    }
    return plain;
}

std::span<const std::byte> memory_of(const TensorView &tensor) {
    int64_t last = 0;
    for (int axis = 0; axis < tensor.rank; axis++) {
        if (tensor.shape[axis] == 0) {
            return {};
        }
        last += (tensor.shape[axis] - 1) * tensor.strides[axis];
    }
    return {static_cast<const std::byte *>(tensor.data), static_cast<size_t>(last + 1) * size_bytes(tensor.dtype)};
}

bool may_overlap_itself(const TensorView &tensor) {
    const Steps steps(tensor);
    int64_t reach = steps.size;
    for (const Steps::Step &step : steps.list()) {
        if (step.stride < reach) {
            return true;
        }
        reach += step.stride * (step.count - 1);
    }
    return false;
}

bool may_overlap(const TensorView &one, const TensorView &two) {
    const std::span<const std::byte> first = memory_of(one), second = memory_of(two);
    const auto begin = reinterpret_cast<uintptr_t>(first.data()), other = reinterpret_cast<uintptr_t>(second.data());
    if (first.empty() || second.empty() || begin + first.size() <= other || other + second.size() <= begin) {
        return false;
    }
    // Columns of one matrix, at any of the pitches that there are.
    const Steps a(one), b(two);
    const auto distance = static_cast<int64_t>(other - begin);
    for (const Steps *steps : {&a, &b}) {
        for (const Steps::Step &step : steps->list()) {
            if (step.stride > 0 && apart_by_columns(a, b, distance, step.stride)) {
                return false;
            }
        }
    }
    return true;
}

}  // namespace moa
