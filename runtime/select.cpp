#include "runtime/select.h"

#include "runtime/caught.h"
#include "runtime/text.h"

#include <algorithm>

namespace moa {

namespace {

bool is_reference(const Row &row) {
    return row.schedule == "reference";
}

std::string missing_features(CpuFeatures missing) {
    std::string names;
    for (int f = 0; f < static_cast<int>(CpuFeature::count); f++) {
        if ((missing & bit(static_cast<CpuFeature>(f))) != 0) {
            names += text("{}{}", names.empty() ? "" : ", ", name_of(static_cast<CpuFeature>(f)));
        }
    }
    return names;
}

// Whether the row's dtype is the problem's. f32 that may be rounded to tf32 is taken by exact rows too.
bool takes(const Row &row, const Problem &problem) {
    if (row.dtype == "tf32") {
        return problem.dtype == DType::f32 && problem.precision == Precision::tf32;
    }
    return row.dtype == "any" || row.dtype == name_of(problem.dtype);
}

Status nothing_accepts(Code code, const Problem &problem, const DeviceDescription &device, const std::vector<Refusal> &refusals) {
    std::string message = text("no row of {} for {} on {} ({})", problem.op, problem.describe(), name_of(device.device), device.name);
    for (const Refusal &refusal : refusals) {
        message += text("; {} {}", refusal.row->name, refusal.reason);
    }
    return {code, refusals.empty() ? message + ": none was built" : message};
}

}  // namespace

std::string refusal(const Row &row, const Problem &problem, const DeviceDescription &device) {
    if (row.device != device.device.type) {
        return text("is for {}, not {}", row.device == DeviceType::cpu ? "the cpu" : "cuda", name_of(device.device));
    }
    if (!takes(row, problem)) {
        return text("is for {}", row.dtype);
    }
    if (row.capability > device.capability) {
        return text("needs compute capability {}.{}, not {}.{}", row.capability / 10, row.capability % 10, device.capability / 10, device.capability % 10);
    }
    if (row.exact && row.capability != device.capability) {
        return text("is for compute capability {}.{} alone, not {}.{}", row.capability / 10, row.capability % 10, device.capability / 10, device.capability % 10);
    }
    if (row.shared_bytes > device.shared_bytes) {
        return text("needs {} bytes of shared memory a block, not {}", row.shared_bytes, device.shared_bytes);
    }
    if (const CpuFeatures missing = row.required & ~device.features; missing != 0) {
        return text("needs {}", missing_features(missing));
    }
    for (const Parameter &parameter : row.statics) {
        const int64_t *value = problem.find(parameter.name);
        if (value == nullptr || *value != parameter.value) {
            return text("is for {} {}, not {}", parameter.name, parameter.value, value == nullptr ? std::string("an unknown one") : std::to_string(*value));
        }
    }
    for (const Range &range : row.accepts) {
        const int64_t *value = problem.find(range.name);
        if (value == nullptr || *value < range.low || *value > range.high) {
            return text("takes {} {} to {}, not {}", range.name, range.low, range.high, value == nullptr ? std::string("an unknown one") : std::to_string(*value));
        }
    }
    return {};
}

int Row::knob(std::string_view knob_name, int fallback) const {
    for (const Parameter &parameter : knobs) {
        if (parameter.name == knob_name) {
            return parameter.value;
        }
    }
    return fallback;
}

Problem::Problem(std::string_view op_name, DType storage, std::initializer_list<Value> sizes)
    : op(op_name), dtype(storage) {
    for (const Value &size : sizes) {
        values[count++] = size;
    }
}

const int64_t *Problem::find(std::string_view name) const {
    for (int index = 0; index < count; index++) {
        if (values[index].name == name) {
            return &values[index].value;
        }
    }
    return nullptr;
}

std::string Problem::describe() const try {
    std::string result = text("{} {}", op, precision == Precision::tf32 && dtype == DType::f32 ? "tf32" : name_of(dtype));
    for (int index = 0; index < count; index++) {
        result += text(" {} {}", values[index].name, values[index].value);
    }
    return result;
} catch (...) {
    return "(no memory)";
}

Result<Choice> select(const Problem &problem, const DeviceDescription &device, std::span<const Row> rows, std::span<const std::string> forced) try {
    return select_rehearsed(problem, device, rows, forced, [](const Row &) { return Status(); });
} catch (...) {
    return caught("select");
}

Result<Choice> select_rehearsed(const Problem &problem, const DeviceDescription &device, std::span<const Row> rows, std::span<const std::string> forced,
                                const Rehearsal &rehearse) {
    std::vector<const Row *> candidates;
    for (const bool reference : {false, true}) {
        for (const Row &row : rows) {
            if (row.op == problem.op && is_reference(row) == reference) {
                candidates.push_back(&row);
            }
        }
    }
    for (const std::string &name : forced) {
        const auto found = std::find_if(candidates.begin(), candidates.end(), [&](const Row *row) { return row->name == name; });
        if (found == candidates.end()) {
            continue;  // a row of another operation
        }
        if (const std::string reason = refusal(**found, problem, device); !reason.empty()) {
            return Status(Code::unsupported, text("forced row {} {} (problem: {})", name, reason, problem.describe()));
        }
        const Status rehearsed = rehearse(**found);
        return rehearsed.ok() ? Result<Choice>(Choice{*found, "forced", {}}) : Result<Choice>(rehearsed);
    }
    Choice choice;
    Code code = Code::unsupported;
    for (const Row *row : candidates) {
        std::string reason = refusal(*row, problem, device);
        if (reason.empty()) {
            const Status rehearsed = rehearse(*row);
            if (rehearsed.ok()) {
                choice.row = row;
                choice.reason = text("first of {} rows that takes {}{}", candidates.size(), problem.describe(), is_reference(*row) ? ": a reference row, many times slower than the others" : "");
                return choice;
            }
            if (rehearsed.code() == Code::out_of_memory || rehearsed.code() == Code::invalid_argument) {
                return rehearsed;
            }
            code = rehearsed.code() == Code::internal ? code : rehearsed.code();
            reason = text("cannot run it: {}", rehearsed.message());
        }
        choice.passed_over.push_back({row, std::move(reason)});
    }
    return nothing_accepts(code, problem, device, choice.passed_over);
}

}  // namespace moa
