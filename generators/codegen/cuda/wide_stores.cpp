#include "generators/codegen/cuda/passes.h"

namespace moa::codegen::cuda {

using namespace Halide;
using namespace Halide::Internal;

namespace {

class WideStores : public IRMutator {
    using IRMutator::visit;

    static constexpr int kBits = 128, kWordBits = 32, kWords = kBits / kWordBits;

    Stmt visit(const Store *op) override {
        const Type type = op->value.type();
        const auto *ramp = op->index.as<Ramp>();
        const int all_bits = type.bits() * type.lanes(), in_store = kBits / type.bits();
        const bool whole = op->param.defined() && ramp != nullptr && is_const_one(ramp->stride) && is_const_one(op->predicate) && type.bits() >= 16 &&
                           type.bits() <= kWordBits && all_bits % kBits == 0;
        if (!whole || op->alignment.modulus % in_store != 0 || op->alignment.remainder % in_store != 0) {
            return IRMutator::visit(op);
        }
        const std::string name = unique_name("wide");
        const Expr value = Variable::make(type, name);
        std::vector<Stmt> stores;
        for (int first = 0; first < type.lanes(); first += in_store) {
            const Expr words = reinterpret(UInt(kWordBits, kWords), Shuffle::make_slice(value, first, 1, in_store));
            const Expr at = simplify((ramp->base + first) / (kWordBits / type.bits()));
            stores.push_back(Store::make(op->name, words, Ramp::make(at, 1, kWords), op->param, const_true(kWords), ModulusRemainder(kWords, 0)));
        }
        return LetStmt::make(name, op->value, Block::make(stores));
    }
};

}  // namespace

Stmt store_16_bytes(const Stmt &s) {
    return WideStores().mutate(s);
}

}  // namespace moa::codegen::cuda
