#include "generators/codegen/checks.h"

namespace moa::codegen {

using namespace Halide;
using namespace Halide::Internal;

namespace {

bool only_checks(const Stmt &s) {
    if (const Block *block = s.as<Block>()) {
        return only_checks(block->first) && only_checks(block->rest);
    }
    return s.as<AssertStmt>() != nullptr;
}

Stmt end_of_rehearsal() {
    const Expr rehearses = Call::make(Int(32), "moa_rehearses", {Variable::make(type_of<void *>(), "__user_context")}, Call::Extern);
    return AssertStmt::make(rehearses == 0, make_const(Int(32), EndOfChecks::kRehearsed));
}

}  // namespace

Stmt EndOfChecks::mutate(const Stmt &s) {
    if (const LetStmt *let = s.as<LetStmt>()) {
        return LetStmt::make(let->name, let->value, mutate(let->body));
    }
    const Block *block = s.as<Block>();
    if (block != nullptr && only_checks(block->first)) {
        return Block::make(block->first, mutate(block->rest));
    }
    return only_checks(s) ? Block::make(s, end_of_rehearsal()) : Block::make(end_of_rehearsal(), s);
}

}  // namespace moa::codegen
