#pragma once

#include "moa/device.h"
#include "moa/export.h"
#include "moa/status.h"
#include "moa/tensor.h"

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

// Rows are the ahead-of-time compiled variants of an operation: (algorithm, schedule, static sizes, target). `select`
// picks one for a problem and a device and says why.
namespace moa {

struct Parameter {
    std::string_view name;
    int value;
};

struct Range {
    std::string_view name;
    int low, high;  // inclusive
};

struct Row {
    std::string_view name;  // symbol, composed from all that follows
    std::string_view op;
    std::string_view schedule;
    std::string_view target;
    std::string_view dtype;  // "f32", "tf32", "bf16", "f16", "any"
    CpuFeatures required = 0;
    std::span<const Parameter> statics;  // the problem's values must be equal
    std::span<const Parameter> knobs;
    std::span<const Range> accepts;      // the problem's values must lie inside
    int (*function)(void **) = nullptr;  // Halide's argv convention
    DeviceType device = DeviceType::cpu;
    int capability = 0;    // CUDA: the least compute capability, 80 for 8.0
    int shared_bytes = 0;  // CUDA: shared memory that a block takes
    bool exact = false;    // CUDA: runs on that capability and no later one

    int knob(std::string_view knob_name, int fallback) const;
};

// Every row that was built into this library, in the order of preference of each operation.
MOA_EXPORT std::span<const Row> built_rows();

// How products of f32 are computed: exactly (each product rounded as f32), or by tensor cores that read f32 as tf32,
// with 10 bits of mantissa. Rows of dtype "tf32" are taken in the second case only.
enum class Precision : uint8_t { exact,
                                 tf32 };

// One call of an operation: its storage dtype and the sizes that rows may depend on.
struct Problem {
    struct Value {
        std::string_view name;
        int64_t value;
    };
    std::string_view op;
    DType dtype = DType::f32;
    Precision precision = Precision::exact;
    std::array<Value, 12> values{};
    int count = 0;

    Problem(std::string_view op_name, DType storage, std::initializer_list<Value> sizes);
    const int64_t *find(std::string_view name) const;
    std::string describe() const;  // "project f32 rows 1024 dim_in 512 dim_out 512"
};

struct Refusal {
    const Row *row;
    std::string reason;  // "needs avx512bf16", "head_dim is 64, not 48"
};

struct Choice {
    const Row *row = nullptr;
    std::string reason;
    std::vector<Refusal> passed_over;  // rows before the chosen one, or all of the operation's rows
};

// Pure: the same arguments give the same answer on any host. `forced` holds row names; one that names a row of the
// problem's operation is taken or refused, never replaced. Rows of schedule "reference" are taken only when forced or
// when nothing else accepts. Fails with Code::unsupported and every refusal in the message.
MOA_EXPORT Result<Choice> select(const Problem &problem, const DeviceDescription &device, std::span<const Row> rows,
                                 std::span<const std::string> forced = {});

}  // namespace moa
