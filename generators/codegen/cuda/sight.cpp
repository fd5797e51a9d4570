#include "generators/codegen/cuda/markers.h"
#include "generators/codegen/cuda/passes.h"
#include "generators/codegen/cuda/threads.h"

#include <algorithm>
#include <sstream>
#include <stdexcept>

namespace moa::codegen::cuda {

using namespace Halide;
using namespace Halide::Internal;

namespace {

class DecideSight : public IRMutator {
public:
    explicit DecideSight(std::vector<std::string> &pipelined)
        : pipelined_(pipelined) {
    }
    bool found = false;

private:
    using IRMutator::visit;
    std::vector<std::string> &pipelined_;

    class Loads : public IRVisitor {
    public:
        explicit Loads(std::vector<std::string> &names)
            : names_(names) {
        }

    private:
        using IRVisitor::visit;
        std::vector<std::string> &names_;
        void visit(const Load *op) override {
            if (std::find(names_.begin(), names_.end(), op->name) == names_.end()) {
                names_.push_back(op->name);
            }
            IRVisitor::visit(op);
        }
    };

    Expr visit(const Call *op) override {
        if (op->name == marker::kAlways) {
            found = true;
            return const_true();
        }
        if (op->name == marker::kAhead) {
            Loads loads(pipelined_);
            op->accept(&loads);
            return make_zero(op->type);
        }
        return IRMutator::visit(op);
    }
};

// A load behind what only renames its type.
const Load *load_behind(const Expr &e) {
    if (const auto *r = e.as<Reinterpret>()) {
        return r->value.type().bits() == r->type.bits() ? load_behind(r->value) : nullptr;
    }
    return e.as<Load>();
}

class ReadWords : public ScopedLets {
    using ScopedLets::visit;
    std::map<std::string, Expr> loads_;  // lets within the expression, so that no store comes between

    Expr visit(const Let *op) override {
        if (load_behind(op->value) != nullptr) {
            loads_[op->name] = op->value;
        }
        return ScopedLets::visit(op);
    }

    // Elements under another name are loaded under that name, so that a copy is a load and a store and nothing between.
    Expr visit(const Reinterpret *op) override {
        const Load *load = load_behind(op);
        if (load == nullptr) {
            return ScopedLets::visit(op);
        }
        return Load::make(op->type, load->name, mutate(load->index), load->image, load->param, mutate(load->predicate), load->alignment);
    }
    Expr visit(const Call *op) override {
        if (op->name != marker::kWord) {
            return IRMutator::visit(op);
        }
        Expr element = op->args[0];
        if (const auto *variable = element.as<Variable>()) {
            const auto it = loads_.find(variable->name);
            element = it == loads_.end() ? element : it->second;
        }
        const Load *load = load_behind(element);
        if (load == nullptr || load->type.is_vector()) {
            std::ostringstream text;
            text << "a word is not that of an element of a buffer: " << element;
            throw std::runtime_error(text.str());
        }
        const Expr index = simplify(lets_.inline_into(load->index) / (32 / load->type.bits()));
        return Load::make(UInt(32), load->name, index, load->image, load->param, const_true(), ModulusRemainder());
    }
};

}  // namespace

Stmt decide_sight(const Stmt &s, std::vector<std::string> &pipelined) {
    DecideSight decide(pipelined);
    const Stmt decided = decide.mutate(s);
    return decide.found ? simplify(decided) : s;
}

Stmt read_words(const Stmt &s) {
    return simplify(ReadWords().mutate(s));
}

Stmt lower_tensor_core(const Stmt &s, std::vector<CopyLoop> &loops, bool few_registers) {
    check_alignment(s);
    if (!has_call(s, [](const std::string &name) { return starts_with(name, "moa_"); })) {
        return s;
    }
    std::vector<std::string> pipelined;
    const Stmt lowered = store_16_bytes(stripe_registers(read_words(decide_sight(skip_productions(s, few_registers), pipelined))));
    return pipelined.empty() ? lowered : begin_products_first(pipeline_copies(lowered, pipelined, loops), loops);
}

}  // namespace moa::codegen::cuda
