#include "generators/codegen/cuda/threads.h"

#include <algorithm>
#include <stdexcept>

namespace moa::codegen::cuda {

using namespace Halide;
using namespace Halide::Internal;

namespace {

class FindThreads : public IRVisitor {
public:
    explicit FindThreads(std::map<std::string, int> &extents)
        : extents_(extents) {
    }

private:
    using IRVisitor::visit;
    std::map<std::string, int> &extents_;

    void visit(const For *op) override {
        if (is_thread_loop(op)) {
            const auto extent = as_const_int(op->extent);
            if (!extent) {
                throw std::runtime_error("the number of threads of " + op->name + " is not constant");
            }
            int &known = extents_[op->name];
            known = std::max(known, static_cast<int>(*extent));
        }
        IRVisitor::visit(op);
    }
};

class FindCall : public IRVisitor {
public:
    explicit FindCall(const std::function<bool(const std::string &name)> &is_such)
        : is_such_(is_such) {
    }
    bool found = false;

private:
    using IRVisitor::visit;
    const std::function<bool(const std::string &name)> &is_such_;

    void visit(const Call *op) override {
        found = found || is_such_(op->name);
        IRVisitor::visit(op);
    }
};

class FindMoreThanArithmetic : public IRVisitor {
public:
    bool found = false;

private:
    using IRVisitor::visit;
    void visit(const Load *) override {
        found = true;
    }
    void visit(const Call *) override {
        found = true;
    }
};

int floor_div(int a, int b) {
    return a >= 0 ? a / b : -((b - 1 - a) / b);
}

template<class Node, class Combine>
std::optional<int> binary(const Expr &e, const std::map<std::string, int> &variables, Combine combine) {
    const Node *op = e.as<Node>();
    if (op == nullptr) {
        return {};
    }
    const auto a = value_of(op->a, variables), b = value_of(op->b, variables);
    return a && b ? combine(*a, *b) : std::optional<int>();
}

}  // namespace

bool has_call(const Stmt &s, const std::function<bool(const std::string &name)> &is_such) {
    FindCall find(is_such);
    s.accept(&find);
    return find.found;
}

bool is_thread_loop(const For *loop) {
    return loop->for_type == ForType::GPUThread || loop->for_type == ForType::GPULane;
}

Threads::Threads(const Stmt &s) {
    FindThreads find(extents_);
    s.accept(&find);
}

int Threads::count() const {
    int count = 1;
    for (const auto &[name, extent] : extents_) {
        count *= extent;
    }
    return count;
}

std::map<std::string, int> Threads::variables(int thread) const {
    std::map<std::string, int> values;
    for (const auto &[name, extent] : extents_) {
        values[name] = thread % extent;
        thread /= extent;
    }
    return values;
}

std::optional<int> value_of(const Expr &e, const std::map<std::string, int> &variables) {
    if (const auto constant = as_const_int(e)) {
        return static_cast<int>(*constant);
    }
    if (const auto *variable = e.as<Variable>()) {
        const auto it = variables.find(variable->name);
        return it == variables.end() ? std::optional<int>() : it->second;
    }
    using Result = std::optional<int>;
    switch (e.node_type()) {
    case IRNodeType::Add:
        return binary<Add>(e, variables, [](int a, int b) { return a + b; });
    case IRNodeType::Sub:
        return binary<Sub>(e, variables, [](int a, int b) { return a - b; });
    case IRNodeType::Mul:
        return binary<Mul>(e, variables, [](int a, int b) { return a * b; });
    case IRNodeType::Min:
        return binary<Min>(e, variables, [](int a, int b) { return std::min(a, b); });
    case IRNodeType::Max:
        return binary<Max>(e, variables, [](int a, int b) { return std::max(a, b); });
    case IRNodeType::Div:
        return binary<Div>(e, variables, [](int a, int b) { return b > 0 ? Result(floor_div(a, b)) : Result(); });
    case IRNodeType::Mod:
        return binary<Mod>(e, variables, [](int a, int b) { return b > 0 ? Result(a - floor_div(a, b) * b) : Result(); });
    default:
        return {};
    }
}

Expr Lets::inline_into(const Expr &e) const {
    return substitute(values_, e);
}

void Lets::add(const std::string &name, const Expr &value) {
    FindMoreThanArithmetic find;
    value.accept(&find);
    if (!find.found) {
        values_[name] = inline_into(value);
    }
}

Stmt ScopedLets::visit(const LetStmt *op) {
    lets_.add(op->name, op->value);
    return IRMutator::visit(op);
}

Expr ScopedLets::visit(const Let *op) {
    lets_.add(op->name, op->value);
    return IRMutator::visit(op);
}

}  // namespace moa::codegen::cuda
