#include "generators/codegen/cuda/passes.h"
#include "generators/codegen/cuda/threads.h"

#include <algorithm>
#include <sstream>
#include <stdexcept>

namespace moa::codegen::cuda {

using namespace Halide;
using namespace Halide::Internal;

namespace {

class StripeRegisters : public ScopedLets {
    using ScopedLets::visit;
    std::map<std::string, Threads> striped_;
    bool in_block_ = false, in_threads_ = false;

    Stmt visit(const For *op) override {
        ScopedValue<bool> block(in_block_, in_block_ || op->for_type == ForType::GPUBlock);
        ScopedValue<bool> threads(in_threads_, in_threads_ || is_thread_loop(op));
        return IRMutator::visit(op);
    }

    Stmt visit(const Allocate *op) override {
        if (op->memory_type != MemoryType::Register || !in_block_ || in_threads_) {
            return IRMutator::visit(op);
        }
        const Threads threads(op->body);
        const int size = op->constant_allocation_size();
        if (size <= 0 || size % threads.count() != 0) {
            throw std::runtime_error(op->name + " has " + std::to_string(size) + " elements, which are no multiple of " + std::to_string(threads.count()) + " threads");
        }
        striped_[op->name] = threads;
        return Allocate::make(op->name, op->type, op->memory_type, {size / threads.count()}, op->condition, mutate(op->body));
    }

    // The thread's register of an index: registers cannot be indexed at run time. The index is tried at the first thread, at
    // each power of two, and at the last one.
    int register_of(const std::string &name, const Expr &given) const {
        const Threads &threads = striped_.at(name);
        const int count = threads.count();
        const Expr index = lets_.inline_into(given);
        const auto fail = [&](const std::string &why) {
            std::ostringstream text;
            text << name << ": " << why << ": " << index;
            throw std::runtime_error(text.str());
        };
        const auto element_of = [&](int thread) {
            std::map<std::string, Expr> ids;
            for (const auto &[id, value] : threads.variables(thread)) {
                ids[id] = value;
            }
            const auto element = as_const_int(simplify(substitute(ids, index)));  // blocks and loop variables must cancel
            if (!element) {
                fail("the index does not depend on the thread alone; unroll the loops over tiles");
            }
            return static_cast<int>(*element);
        };
        const int first = element_of(0);
        const auto check = [&](int thread) {
            if (first % count != 0 || element_of(thread) != first + thread) {
                fail(std::string("thread ") + std::to_string(thread) + " uses another thread's registers");
            }
        };
        for (int thread = 1; thread < count; thread *= 2) {
            check(thread);
        }
        check(count - 1);
        return first / count;
    }

    Expr visit(const Load *op) override {
        if (!striped_.contains(op->name)) {
            return IRMutator::visit(op);
        }
        std::vector<Expr> elements;
        for (int lane = 0; lane < op->type.lanes(); lane++) {
            const Expr index = op->type.is_vector() ? extract_lane(op->index, lane) : op->index;
            elements.push_back(Load::make(op->type.element_of(), op->name, register_of(op->name, index), op->image, op->param, const_true(), ModulusRemainder()));
        }
        return elements.size() == 1 ? elements[0] : Shuffle::make_concat(elements);
    }

    Stmt visit(const Store *op) override {
        if (!striped_.contains(op->name)) {
            return IRMutator::visit(op);
        }
        return Store::make(op->name, mutate(op->value), register_of(op->name, op->index), op->param, op->predicate, ModulusRemainder());
    }
};

}  // namespace

Stmt stripe_registers(const Stmt &s) {
    return StripeRegisters().mutate(s);
}

}  // namespace moa::codegen::cuda
