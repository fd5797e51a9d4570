#include "generators/codegen/prefetch.h"

#include <stdexcept>

namespace moa::codegen {

using namespace Halide;
using namespace Halide::Internal;

namespace {

constexpr int kLineBytes = 64;

Stmt fetch(const Call *prefetch, const Expr &offset) {
    constexpr int kRead = 0, kAllLevels = 3, kData = 1;
    const Expr base = reinterpret(UInt(64), prefetch->args[0]);
    const Expr address = reinterpret(Handle(), base + cast<uint64_t>(cast<int64_t>(offset)) * prefetch->type.bytes());
    return Evaluate::make(Call::make(Int(32), "llvm.prefetch.p0", {address, kRead, kAllLevels, kData}, Call::Extern));
}

}  // namespace

Stmt PrefetchLines::visit(const For *loop) {
    const auto *statement = loop->body.as<Evaluate>();
    const Call *prefetch = statement == nullptr ? nullptr : Call::as_intrinsic(statement->value, {Call::prefetch});
    if (prefetch == nullptr) {
        return IRMutator::visit(loop);
    }
    const auto lines = as_const_int(loop->extent);
    if (!lines || !is_const_zero(loop->min)) {
        throw std::runtime_error("a prefetch must be of one row of a constant number of elements");
    }
    const Expr first = substitute(loop->name, 0, prefetch->args[1]);
    Stmt all;
    for (int line = 0; line < static_cast<int>(*lines); line++) {
        const Stmt one = fetch(prefetch, first + line * (kLineBytes / prefetch->type.bytes()));
        all = all.defined() ? Block::make(all, one) : one;
    }
    return all;
}

Stmt PrefetchLines::visit(const Evaluate *statement) {
    const Call *prefetch = Call::as_intrinsic(statement->value, {Call::prefetch});
    return prefetch == nullptr ? IRMutator::visit(statement) : fetch(prefetch, prefetch->args[1]);
}

}  // namespace moa::codegen
