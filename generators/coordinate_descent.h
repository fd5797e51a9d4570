#pragma once

#include "generators/codegen/kernel.h"

#include <utility>

// Entropic top-k relaxation of rows of scores. An iteration needs one scalar of the one before it, the dual variable a:
// with b = -max(s + a, 0), s + b = min(s, -a), whose maximum min(max s, -a) stabilises the log-sum-exp.
namespace moa {

// The sum of an iteration, of exp((s + b - max(s + b)) / eps).
struct LogSumExp {
    Halide::Func shift;  // (r, b): the maximum over eps, a Func so that it is an addend of a fused product
    Halide::Func parts;  // (l, r, b): partial sums
    Halide::Func sum;    // (r, b)
};

// A row of scores with masked positions replaced by the lowest number, whole lanes long, and its log-sum-exp. The knob
// `lanes` says how many partial sums there are.
struct DescentRow {
    Halide::ImageParam scores{Halide::Float(32), 3, "scores"};  // (n, r, b)
    Halide::ImageParam mask{Halide::UInt(8), 2, "mask"};        // (n, b)
    Halide::Var l{"l"}, n{"n"}, r{"r"}, b{"b"};
    Halide::RDom blocks, lanes;
    Halide::Func values{"values"};  // (n, r, b)
    Halide::Func largest_parts{"largest_parts"}, largest{"largest"};
    Halide::Func valid_parts{"valid_parts"}, valid{"valid"};  // how many positions are valid

    Halide::Func unsound_parts{"unsound_parts"}, unsound{"unsound"};  // (r, b): a valid score makes the dual variable NaN

    explicit DescentRow(int partial_sums);
    // Whether a score of -infinity does depends on the iteration.
    void define_unsound(const Halide::Expr &minus_infinity);
    // The dual variable of the first iteration, where s + b = 0, and of a later one from the one before it.
    Halide::Expr first_dual(const Halide::Expr &log_k, const Halide::Expr &eps) const;
    Halide::Expr next_dual(const Halide::Expr &dual, const Halide::Expr &sum, const Halide::Expr &log_k, const Halide::Expr &eps) const;
    LogSumExp make_sum(const std::string &name, const Halide::Expr &dual, const Halide::Expr &eps) const;
    Halide::Expr soft_score(const Halide::Expr &dual, const Halide::Expr &eps) const;  // of (n, r, b)

private:
    static Halide::Expr is_kept(const Halide::Expr &value);
    Halide::Expr stabiliser(const Halide::Expr &dual) const;
};

// All iterations in one kernel; the row stays in cache. eps holds iterations + 1 entries: the last divides at the end.
struct CoordinateDescent {
    explicit CoordinateDescent(DescentRow r)
        : row(std::move(r)) {
    }

    DescentRow row;
    Halide::Param<float> log_k{"log_k"};
    Halide::ImageParam eps{Halide::Float(32), 1, "eps"};
    std::vector<LogSumExp> sums;
    std::vector<Halide::Func> duals;
    Halide::Func last_dual{"last_dual"};
    Halide::Func y{"y"};

    std::vector<Halide::Argument> arguments() const;
    std::vector<Halide::Func> outputs() const;
};

// One iteration, for any number of them: the caller keeps one scalar per row.
struct CoordinateDescentStep {
    explicit CoordinateDescentStep(DescentRow r)
        : row(std::move(r)) {
    }

    DescentRow row;
    Halide::ImageParam a_in{Halide::Float(32), 2, "a_in"};  // (r, b), unread if first
    Halide::Param<int> first{"first"};
    Halide::Param<float> log_k{"log_k"}, eps{"eps"};
    LogSumExp sum;
    Halide::Func a{"a"};

    std::vector<Halide::Argument> arguments() const;
    std::vector<Halide::Func> outputs() const;
};

struct CoordinateDescentFinish {
    explicit CoordinateDescentFinish(DescentRow r)
        : row(std::move(r)) {
    }

    DescentRow row;
    Halide::ImageParam a{Halide::Float(32), 2, "a"};
    Halide::Param<float> eps{"eps"};
    Halide::Func y{"y"};

    std::vector<Halide::Argument> arguments() const;
    std::vector<Halide::Func> outputs() const;
};

CoordinateDescent make_coordinate_descent(Halide::Type storage, const Values &statics);
CoordinateDescentStep make_coordinate_descent_step(Halide::Type storage, const Values &statics);
CoordinateDescentFinish make_coordinate_descent_finish(Halide::Type storage, const Values &statics);

}  // namespace moa
