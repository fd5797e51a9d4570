#include "generators/codegen/cuda/passes.h"
#include "generators/codegen/cuda/threads.h"

#include <set>
#include <sstream>
#include <stdexcept>

namespace moa::codegen::cuda {

using namespace Halide;
using namespace Halide::Internal;

namespace {

class CheckAlignment : public ScopedLets {
    using ScopedLets::visit;
    std::set<std::string> shared_;
    bool in_threads_ = false;

    // What is claimed of the index must follow from it.
    void check(const std::string &name, const Expr &index, const ModulusRemainder &claimed) const {
        const Ramp *ramp = index.as<Ramp>();
        if (ramp == nullptr || claimed.modulus <= 1 || shared_.count(name) == 0) {
            return;
        }
        const ModulusRemainder known = modulus_remainder(lets_.inline_into(ramp->base));
        if (known.modulus % claimed.modulus != 0 || mod_imp(known.remainder - claimed.remainder, claimed.modulus) != 0) {
            std::ostringstream text;
            text << "a vector of " << name << " may lie where no vector may: an array before it ends at no multiple of " << claimed.modulus
                 << " elements (align_storage). Its index is " << lets_.inline_into(ramp->base);
            throw std::runtime_error(text.str());
        }
    }

    Expr visit(const Load *op) override {
        check(op->name, op->index, op->alignment);
        return ScopedLets::visit(op);
    }
    Stmt visit(const Store *op) override {
        check(op->name, op->index, op->alignment);
        return ScopedLets::visit(op);
    }
    Stmt visit(const For *op) override {
        const bool outer = in_threads_;
        in_threads_ = in_threads_ || is_thread_loop(op);
        Stmt s = ScopedLets::visit(op);
        in_threads_ = outer;
        return s;
    }
    Stmt visit(const Allocate *op) override {
        if (!in_threads_ && op->memory_type != MemoryType::Register) {
            shared_.insert(op->name);
        }
        return ScopedLets::visit(op);
    }
};

}  // namespace

void check_alignment(const Stmt &s) {
    CheckAlignment().mutate(s);
}

}  // namespace moa::codegen::cuda
