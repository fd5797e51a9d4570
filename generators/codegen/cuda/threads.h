#pragma once

#include "Halide.h"

#include <functional>
#include <map>
#include <optional>
#include <string>

// What the passes share: what a statement calls, the threads of a block, and indices as numbers.
namespace moa::codegen::cuda {

bool is_thread_loop(const Halide::Internal::For *loop);

// Whether a statement has a call with such a name.
bool has_call(const Halide::Internal::Stmt &s, const std::function<bool(const std::string &name)> &is_such);

// The thread variables under a statement and their extents, x first.
class Threads {
public:
    Threads() = default;
    explicit Threads(const Halide::Internal::Stmt &s);

    int count() const;
    std::map<std::string, int> variables(int thread) const;

private:
    std::map<std::string, int> extents_;  // ".thread_id_x" sorts before ".thread_id_y"
};

// The value of an integer expression of the given variables; nothing if there is more in it than arithmetic.
std::optional<int> value_of(const Halide::Expr &e, const std::map<std::string, int> &variables);

// The lets in scope, to see indices in full. One that holds a load is not kept: moved past a store it would have another
// value. Nor is one that holds a call, as of a buffer's fields: those are there outside of kernels only.
class Lets {
public:
    void add(const std::string &name, const Halide::Expr &value);
    Halide::Expr inline_into(const Halide::Expr &e) const;

private:
    std::map<std::string, Halide::Expr> values_;  // names are unique
};

class ScopedLets : public Halide::Internal::IRMutator {
protected:
    using IRMutator::visit;
    Lets lets_;

    Halide::Internal::Stmt visit(const Halide::Internal::LetStmt *op) override;
    Halide::Expr visit(const Halide::Internal::Let *op) override;
};

}  // namespace moa::codegen::cuda
