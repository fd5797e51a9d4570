#include "generators/codegen/cuda/markers.h"
#include "generators/codegen/cuda/passes.h"
#include "generators/codegen/cuda/threads.h"

#include <map>
#include <stdexcept>
#include <string>
#include <vector>

namespace moa::codegen::cuda {

using namespace Halide;
using namespace Halide::Internal;

namespace {

// Takes the marks away and says what they say, in terms of what is known outside.
class TakeCondition : public IRMutator {
public:
    explicit TakeCondition(std::string produced)
        : produced_(std::move(produced)) {
    }
    Expr condition;

private:
    using IRMutator::visit;
    std::string produced_;
    std::map<std::string, Expr> lets_;
    std::vector<std::string> loops_;

    Expr visit(const Call *op) override {
        if (op->name != marker::kOnlyIf) {
            return IRMutator::visit(op);
        }
        condition = substitute(lets_, op->args[0]);
        for (const std::string &loop : loops_) {
            if (expr_uses_var(condition, loop)) {
                throw std::runtime_error(produced_ + " is computed under a condition that depends on its own loop " + loop);
            }
        }
        return mutate(op->args[1]);
    }
    Expr visit(const Let *op) override {
        lets_[op->name] = substitute(lets_, op->value);
        return IRMutator::visit(op);
    }
    Stmt visit(const LetStmt *op) override {
        lets_[op->name] = substitute(lets_, op->value);
        return IRMutator::visit(op);
    }
    Stmt visit(const For *op) override {
        loops_.push_back(op->name);
        Stmt s = IRMutator::visit(op);
        loops_.pop_back();
        return s;
    }
};

class SkipProductions : public IRMutator {
    using IRMutator::visit;

    Stmt visit(const ProducerConsumer *op) override {
        const Stmt body = mutate(op->body);
        if (!op->is_producer || !has_call(body, [](const std::string &name) { return name == marker::kOnlyIf; })) {
            return ProducerConsumer::make(op->name, op->is_producer, body);
        }
        TakeCondition take(op->name);
        const Stmt all = take.mutate(body);
        return ProducerConsumer::make_produce(op->name, IfThenElse::make(take.condition, all));
    }
};

}  // namespace

Stmt skip_productions(const Stmt &s) {
    return has_call(s, [](const std::string &name) { return name == marker::kOnlyIf; }) ? SkipProductions().mutate(s) : s;
}

}  // namespace moa::codegen::cuda
