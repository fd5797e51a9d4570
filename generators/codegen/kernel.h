#pragma once

#include "Halide.h"
#include "generators/codegen/row.h"

#include <functional>
#include <map>
#include <string>
#include <vector>

// How algorithms and schedules announce themselves to the generator program. An algorithm is a struct of named Funcs
// (generators/<op>.h) with `arguments()` and `outputs()`, built by a plain function of the storage type and the row's
// values; it knows no target. A schedule is a function of that struct (schedules/<op>_<target>.cpp). Both see the row's static
// values and knobs: a knob may name a data format, such as the width of a weight panel, that the two must agree on.
namespace moa {

using codegen::Values;

// What the compiler needs of a scheduled algorithm. The AOT function takes the arguments, then the outputs.
struct Kernel {
    std::vector<Halide::Argument> arguments;
    std::vector<Halide::Func> outputs;
    int registers = 0;  // most of a thread of a GPU, which says how many threads run at once; 0: as many as the assembler likes
};

template<class Op>
using Schedule = void (*)(Op &, const Halide::Target &, const Values &knobs);

template<class Op>
std::map<std::string, Schedule<Op>> &schedules_of() {
    static std::map<std::string, Schedule<Op>> table;
    return table;
}

using BuildKernel = std::function<Kernel(const codegen::Row &, const Halide::Target &)>;
std::map<std::string, BuildKernel> &operations();

Halide::Type storage_type(const std::string &dtype);  // "f32", "tf32" -> Float(32), "bf16" -> BFloat(16), "f16" -> Float(16), "any" -> Float(32)

template<class Op>
bool register_operation(const std::string &name, Op (*make)(Halide::Type, const Values &)) {
    operations()[name] = [make](const codegen::Row &row, const Halide::Target &target) {
        const auto schedule = schedules_of<Op>().find(row.schedule);
        if (schedule == schedules_of<Op>().end()) {
            throw std::runtime_error(row.symbol() + ": operation " + row.op + " has no schedule named " + row.schedule);
        }
        const Values values = row.values();
        Op op = make(storage_type(row.dtype), values);
        schedule->second(op, target, values);
        return Kernel{op.arguments(), op.outputs(), values.get("registers", 0)};
    };
    return true;
}

template<class Op>
bool register_schedule(const std::string &name, Schedule<Op> schedule) {
    schedules_of<Op>()[name] = schedule;
    return true;
}

}  // namespace moa

// Static initialisers are safe here: the generator program links these objects directly, never from an archive.
#define MOA_OPERATION(Op, name, make) \
    static const bool moa_operation_##Op = ::moa::register_operation<Op>(name, make)
#define MOA_SCHEDULE(Op, name, function) \
    static const bool moa_schedule_##Op##_##name = ::moa::register_schedule<Op>(#name, function)
