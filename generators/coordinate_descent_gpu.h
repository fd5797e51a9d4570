#pragma once

#include "generators/codegen/kernel.h"

#include <utility>

// The operations of coordinate_descent.h for schedules that give a row to a block of threads: a thread sums up what it
// meets, sums of threads are summed up in groups, and groups at last.
namespace moa {

struct BlockSum {
    Halide::RDom members;  // of a group
    Halide::RDom all;      // groups
    Halide::Func own;      // (l, r, b): a thread's, and what it shows to the others
    Halide::Func parts;
    Halide::Func of_group;  // (g, r, b): likewise
    Halide::Func groups;
    Halide::Func total;  // (r, b)
};

struct DescentRowGpu {
    static constexpr int kThreads = 1024, kGroup = 32;

    Halide::ImageParam scores{Halide::Float(32), 3, "scores"};  // (n, r, b)
    Halide::ImageParam mask{Halide::UInt(8), 2, "mask"};        // (n, b)
    Halide::Var l{"l"}, g{"g"}, n{"n"}, r{"r"}, b{"b"};
    Halide::RDom steps;             // of a thread
    Halide::Func values{"values"};  // (n, r, b): masked positions hold the smallest number, and no others do
    BlockSum largest, valid;

    // wants_finite: an infinite valid score, whatever its sign, makes all of the row NaN.
    explicit DescentRowGpu(const Halide::Expr &wants_finite);
    Halide::Expr first_dual(const Halide::Expr &log_k, const Halide::Expr &eps) const;
    Halide::Expr next_dual(const Halide::Expr &dual, const Halide::Expr &sum, const Halide::Expr &log_k, const Halide::Expr &eps) const;
    // Of exp((s + b - max(s + b)) / eps).
    BlockSum make_sum(const std::string &name, const Halide::Func &dual) const;
    // What an iteration begins with: the dual variable, and factor and addend of its exponents.
    Halide::Tuple dual_and_shift(const Halide::Expr &dual, const Halide::Expr &eps) const;
    Halide::Expr soft_score(const Halide::Expr &dual, const Halide::Expr &eps) const;

private:
    Halide::Expr stabiliser(const Halide::Expr &dual) const;
};

struct CoordinateDescentGpu {
    DescentRowGpu row{Halide::Internal::const_true()};
    Halide::Param<float> log_k{"log_k"};
    Halide::ImageParam eps{Halide::Float(32), 1, "eps"};
    std::vector<BlockSum> sums;
    Halide::Var z{"z"};               // of one thread
    std::vector<Halide::Func> duals;  // (z, r, b)
    Halide::Func y{"y"};

    std::vector<Halide::Argument> arguments() const;
    std::vector<Halide::Func> outputs() const;
};

struct CoordinateDescentStepGpu {
    Halide::ImageParam a_in{Halide::Float(32), 2, "a_in"};
    Halide::Param<int> first{"first"};
    DescentRowGpu row{first != 0};
    Halide::Param<float> log_k{"log_k"}, eps{"eps"};
    Halide::Var z{"z"};
    Halide::Func before{"before"}, after{"after"};  // (z, r, b)
    BlockSum sum;
    Halide::Func a{"a"};

    std::vector<Halide::Argument> arguments() const;
    std::vector<Halide::Func> outputs() const;
};

struct CoordinateDescentFinishGpu {
    DescentRowGpu row{Halide::Internal::const_false()};
    Halide::ImageParam a{Halide::Float(32), 2, "a"};
    Halide::Param<float> eps{"eps"};
    Halide::Func y{"y"};

    std::vector<Halide::Argument> arguments() const;
    std::vector<Halide::Func> outputs() const;
};

CoordinateDescentGpu make_coordinate_descent_gpu(Halide::Type storage, const Values &statics);
CoordinateDescentStepGpu make_coordinate_descent_step_gpu(Halide::Type storage, const Values &statics);
CoordinateDescentFinishGpu make_coordinate_descent_finish_gpu(Halide::Type storage, const Values &statics);

}  // namespace moa
