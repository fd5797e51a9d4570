#include "generators/codegen/cuda/markers.h"
#include "generators/codegen/cuda/passes.h"
#include "generators/codegen/cuda/threads.h"

#include <map>
#include <set>
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

// Writes variables out in full.
class InlineLets : public IRMutator {
public:
    explicit InlineLets(const Lets &lets)
        : lets_(lets) {
    }

private:
    using IRMutator::visit;
    const Lets &lets_;

    Expr visit(const Variable *op) override {
        return lets_.inline_into(op);
    }
};

// Whether registers that are striped over threads are loaded: their index has to tell the thread.
class FindStriped : public IRVisitor {
public:
    explicit FindStriped(const std::set<std::string> &striped)
        : striped_(striped) {
    }
    bool found = false;

private:
    using IRVisitor::visit;
    const std::set<std::string> &striped_;

    void visit(const Load *op) override {
        found = found || striped_.contains(op->name);
        IRVisitor::visit(op);
    }
};

// What is rare reads its thread's and block's place anew: of addresses that it shared with the loops before, ptxas would keep the
// registers through them, and compute others again in every iteration (777 instructions instead of 732 for bf16 heads of 64 on sm_90).
class SkipProductions : public ScopedLets {
public:
    explicit SkipProductions(bool reads_places)
        : reads_places_(reads_places) {
    }

private:
    using ScopedLets::visit;
    bool reads_places_;
    std::set<std::string> striped_;
    std::vector<std::string> places_;  // loops over threads and blocks

    static std::string anew(const std::string &loop) {
        for (const char *of : {"thread", "block"}) {
            for (const char axis : {'x', 'y', 'z'}) {
                if (ends_with(loop, std::string(".") + of + "_id_" + axis)) {
                    return std::string("moa_") + of + "_" + axis;
                }
            }
        }
        return "";
    }
    Stmt visit(const For *op) override {
        const bool is_place = !anew(op->name).empty();
        if (is_place) {
            places_.push_back(op->name);
        }
        Stmt s = IRMutator::visit(op);
        if (is_place) {
            places_.pop_back();
        }
        return s;
    }
    Stmt visit(const Allocate *op) override {
        if (op->memory_type == MemoryType::Register) {
            striped_.insert(op->name);
        }
        return IRMutator::visit(op);
    }
    Stmt at_place_anew(const std::string &produced, const Stmt &s) const {
        FindStriped find(striped_);
        s.accept(&find);
        if (find.found) {
            return s;
        }
        std::map<std::string, Expr> names;
        for (const std::string &place : places_) {
            names[place] = Variable::make(Int(32), unique_name(produced + ".place"));
        }
        Stmt all = substitute(names, s);
        for (const auto &[place, name] : names) {
            all = LetStmt::make(name.as<Variable>()->name, Call::make(Int(32), anew(place), {}, Call::Extern), all);
        }
        return all;
    }
    Stmt visit(const ProducerConsumer *op) override {
        const Lets outside = lets_;
        const Stmt body = mutate(op->body);
        if (!op->is_producer || !has_call(body, [](const std::string &name) { return name == marker::kOnlyIf; })) {
            return ProducerConsumer::make(op->name, op->is_producer, body);
        }
        TakeCondition take(op->name);
        Stmt all = take.mutate(body);
        if (reads_places_) {
            all = at_place_anew(op->name, InlineLets(outside).mutate(all));
        }
        return ProducerConsumer::make_produce(op->name, IfThenElse::make(take.condition, all));
    }
};

}  // namespace

Stmt skip_productions(const Stmt &s, bool few_registers) {
    // Kernels of 16-bit mma have no registers left; they would spill more. Where a row limits them, attention of heads of 128 took 6 to 8 %
    // longer (`moa bench --suite reference --device cuda:0 --dtype bf16 --case attention_4096x32_d128`, one H200).
    const bool reads_places = !few_registers && !has_call(s, [](const std::string &name) { return starts_with(name, "moa_mma_m16n8k16"); });
    return has_call(s, [](const std::string &name) { return name == marker::kOnlyIf; }) ? SkipProductions(reads_places).mutate(s) : s;
}

}  // namespace moa::codegen::cuda
