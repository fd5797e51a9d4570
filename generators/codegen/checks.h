#pragma once

#include "Halide.h"

namespace moa::codegen {

// A row of a CPU asks the runtime, when all of its arguments have passed its checks, whether it is only rehearsed, and returns
// kRehearsed then: so that a plan knows before it runs whether a row takes its arguments. (Rows of GPUs are rehearsed by a
// runtime that launches nothing.)
class EndOfChecks : public Halide::Internal::IRMutator {
public:
    static constexpr int kRehearsed = -9001;  // no error code of Halide's; runtime/run.cpp knows it, too

    Halide::Internal::Stmt mutate(const Halide::Internal::Stmt &s) override;

private:
    using IRMutator::mutate;
};

}  // namespace moa::codegen
