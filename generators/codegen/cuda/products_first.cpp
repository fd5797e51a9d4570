#include "generators/codegen/cuda/markers.h"
#include "generators/codegen/cuda/passes.h"
#include "generators/codegen/cuda/threads.h"

#include <algorithm>
#include <stdexcept>

namespace moa::codegen::cuda {

using namespace Halide;
using namespace Halide::Internal;

namespace {

// Whether there is anything but loads that are stored.
class FindWork : public IRVisitor {
public:
    bool found = false;

private:
    using IRVisitor::visit;
    void visit(const Store *op) override {
        found = found || op->value.as<Load>() == nullptr;
    }
    void visit(const Evaluate *op) override {
        found = found || !is_const(op->value);
    }
};

bool is_first(const Stmt &s) {
    return has_call(s, [](const std::string &name) { return name == marker::kBeforeCopies; });
}

bool is_call(const Stmt &s, const char *name) {
    const auto *evaluated = s.as<Evaluate>();
    const Call *call = evaluated != nullptr ? evaluated->value.as<Call>() : nullptr;
    return call != nullptr && call->name == name;
}

// Behind the statement with the products that come first, inside of what only names things for it.
Stmt put_behind_products(const Stmt &s, const Stmt &more) {
    if (const auto *block = s.as<Block>()) {
        return is_first(block->first) ? Block::make({block->first, more, block->rest}) : Block::make(block->first, put_behind_products(block->rest, more));
    }
    if (const auto *let = s.as<LetStmt>()) {
        return LetStmt::make(let->name, let->value, put_behind_products(let->body, more));
    }
    if (const auto *node = s.as<ProducerConsumer>(); node != nullptr && !node->is_producer) {
        return ProducerConsumer::make_consume(node->name, put_behind_products(node->body, more));
    }
    return Block::make(s, more);
}

// The body of a loop: what is copied, then what is done from iteration `ahead` on.
class Split : public IRMutator {
public:
    Split(std::string loop, bool first_iterations)
        : loop_(std::move(loop)), first_iterations_(first_iterations) {
    }
    int ahead = -1;

private:
    using IRMutator::visit;
    std::string loop_;
    bool first_iterations_;
    std::vector<Stmt> copies_;

    Stmt take(const Stmt &s) {
        if (first_iterations_) {
            return s;
        }
        copies_.push_back(s);
        return Evaluate::make(0);
    }
    Stmt visit(const ProducerConsumer *op) override {
        if (!op->is_producer || ahead >= 0) {
            return IRMutator::visit(op);
        }
        FindWork work;
        op->body.accept(&work);
        if (work.found) {
            throw std::runtime_error("loop " + loop_ + ": " + op->name + " is computed, not copied, before the products that are to come first");
        }
        return take(op);
    }
    Stmt visit(const Evaluate *op) override {
        return is_call(op, marker::kCommitCopies) ? take(op) : IRMutator::visit(op);
    }
    Stmt visit(const IfThenElse *op) override {
        const auto *from = op->condition.as<LE>();
        const auto *counter = from != nullptr ? from->b.as<Variable>() : nullptr;
        const auto first = from != nullptr ? as_const_int(from->a) : std::nullopt;
        if (counter == nullptr || counter->name != loop_ || !first || op->else_case.defined() || !is_first(op->then_case)) {
            return IRMutator::visit(op);
        }
        ahead = static_cast<int>(*first);
        return first_iterations_ ? Evaluate::make(0) : put_behind_products(op->then_case, Block::make(copies_));
    }
};

class ProductsFirst : public IRMutator {
public:
    explicit ProductsFirst(const std::vector<CopyLoop> &loops)
        : loops_(loops) {
    }

private:
    using IRMutator::visit;
    const std::vector<CopyLoop> &loops_;

    Expr visit(const Call *op) override {
        return op->name == marker::kBeforeCopies ? mutate(op->args[0]) : IRMutator::visit(op);
    }

    // Without what is waited for before a tile is read: no tile is, and no slot has a tile yet.
    static Stmt without_waits(const Stmt &s) {
        const auto *block = s.as<Block>();
        const bool wait = block != nullptr && (is_call(block->first, marker::kWaitForCopies) || is_call(block->first, marker::kWaitForProducts) || is_call(block->first, marker::kShowToProducts));
        return wait ? without_waits(block->rest) : s;
    }

    Stmt visit(const For *op) override {
        const auto loop = std::find_if(loops_.begin(), loops_.end(), [&](const CopyLoop &l) { return l.name == op->name; });
        if (loop == loops_.end() || !is_first(op->body)) {
            return IRMutator::visit(op);
        }
        Split first(op->name, true), others(op->name, false);
        const Stmt only_copies = without_waits(first.mutate(op->body)), body = others.mutate(op->body);
        if (loop->products == 0 || others.ahead <= 0 || !is_const_zero(op->min)) {
            throw std::runtime_error("loop " + op->name + " does not say which of its iterations only copy");
        }
        const std::string name = op->name + ".ahead";
        const Expr ahead = min(others.ahead, op->extent);
        const auto part = [&](const std::string &counter, const Expr &begin, const Expr &extent, const Stmt &of) {
            return For::make(counter, begin, extent, op->for_type, op->partition_policy, op->device_api, of);
        };
        return Block::make(part(name, 0, ahead, substitute(op->name, Variable::make(Int(32), name), only_copies)), part(op->name, ahead, op->extent - ahead, mutate(body)));
    }
};

}  // namespace

Stmt begin_products_first(const Stmt &s, const std::vector<CopyLoop> &loops) {
    return ProductsFirst(loops).mutate(s);
}

}  // namespace moa::codegen::cuda
