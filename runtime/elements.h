#pragma once

#include "moa/rows.h"
#include "moa/tensor.h"
#include "runtime/bf16.h"
#include "runtime/f16.h"

#include <cstdint>
#include <cstring>
#include <string_view>

// The codec of the element types: the one place that says how elements lie in memory and what rounding does to them.
namespace moa {

namespace detail {

template<class T>
T load_as(const void *from) {
    T value;
    std::memcpy(&value, from, sizeof value);
    return value;
}

template<class T>
void store_as(void *to, T value) {
    std::memcpy(to, &value, sizeof value);
}

}  // namespace detail

// A double holds every value of every type but i64 beyond 2^53.
inline double load_element(DType dtype, const void *from) {
    switch (dtype) {
    case DType::f32:
        return detail::load_as<float>(from);
    case DType::bf16:
        return bf16_to_f32(detail::load_as<uint16_t>(from));
    case DType::f16:
        return f16_to_f32(detail::load_as<uint16_t>(from));
    case DType::f64:
        return detail::load_as<double>(from);
    case DType::i32:
        return detail::load_as<int32_t>(from);
    case DType::i64:
        return static_cast<double>(detail::load_as<int64_t>(from));
    case DType::u8:
    case DType::boolean:
        return detail::load_as<uint8_t>(from);
    }
    return 0;
}

// Rounds to f32, and from there to the type: to nearest, ties to even. Integers must be in the type's range.
inline void store_element(DType dtype, void *to, double value) {
    switch (dtype) {
    case DType::f32:
        return detail::store_as(to, static_cast<float>(value));
    case DType::bf16:
        return detail::store_as(to, f32_to_bf16(static_cast<float>(value)));
    case DType::f16:
        return detail::store_as(to, f32_to_f16(static_cast<float>(value)));
    case DType::f64:
        return detail::store_as(to, value);
    case DType::i32:
        return detail::store_as(to, static_cast<int32_t>(value));
    case DType::i64:
        return detail::store_as(to, static_cast<int64_t>(value));
    case DType::u8:
    case DType::boolean:
        return detail::store_as(to, static_cast<uint8_t>(value));
    }
}

// What becomes of a value that is stored in the type.
inline double rounded_to(DType dtype, double value) {
    unsigned char element[sizeof(double)];
    store_element(dtype, element, value);
    return load_element(dtype, element);
}

// Types of weights and activations.
constexpr bool is_storage(DType dtype) {
    return dtype == DType::f32 || dtype == DType::bf16 || dtype == DType::f16;
}

// The storage type of rows that state this dtype; f32 for "tf32", a way to multiply, and for "any".
constexpr DType storage_of(std::string_view row_dtype) {
    return row_dtype == "bf16" ? DType::bf16 : (row_dtype == "f16" ? DType::f16 : DType::f32);
}

// Half the distance between neighbouring numbers at 1, the most that rounding to the type changes a number relatively; 0 for
// integers.
constexpr double roundoff(DType dtype) {
    switch (dtype) {
    case DType::f32:
        return 0x1p-24;
    case DType::bf16:
        return 0x1p-8;
    case DType::f16:
        return 0x1p-11;
    case DType::f64:
        return 0x1p-53;
    default:
        return 0;
    }
}

// The same of numbers on their way through a layer or a product, whose sums are f32: 0 if nothing there is narrower than that.
// Products of tf32 round or cut their factors to 10 bits.
constexpr double inner_roundoff(DType dtype, Precision precision) {
    if (dtype == DType::f32) {
        return precision == Precision::tf32 ? 0x1p-10 : 0;
    }
    return is_storage(dtype) ? roundoff(dtype) : 0;
}

}  // namespace moa
