#include "generators/codegen/tiles.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

namespace moa::codegen {

using namespace Halide;
using namespace Halide::Internal;

namespace {

constexpr size_t kAccumulators = 4;

class RenameBuffer : public IRMutator {
public:
    RenameBuffer(const std::string &from, const std::string &to)
        : from_(from), to_(to) {
    }

private:
    using IRMutator::visit;
    Expr visit(const Load *load) override {
        return load->name == from_ ? Load::make(load->type, to_, load->index, load->image, load->param, load->predicate, load->alignment) : IRMutator::visit(load);
    }
    Stmt visit(const Store *store) override {
        const Expr value = mutate(store->value);
        return Store::make(store->name == from_ ? to_ : store->name, value, store->index, store->param, store->predicate, store->alignment);
    }

    const std::string &from_, &to_;
};

void flatten(const Stmt &statement, std::vector<Stmt> &into) {
    if (const auto *block = statement.as<Block>()) {
        flatten(block->first, into);
        flatten(block->rest, into);
    } else if (statement.defined()) {
        into.push_back(statement);
    }
}

// What an accumulator's allocation does, one after the other: stores, loops and evaluations, without wrappers and names.
void collect(const Stmt &statement, std::vector<Stmt> &into) {
    if (const auto *block = statement.as<Block>()) {
        collect(block->first, into);
        collect(block->rest, into);
    } else if (const auto *production = statement.as<ProducerConsumer>()) {
        collect(production->body, into);
    } else if (const auto *let = statement.as<LetStmt>()) {
        collect(substitute(let->name, let->value, let->body), into);
    } else if (statement.defined() && statement.as<Free>() == nullptr) {
        into.push_back(statement);
    }
}

const Allocate *accumulator(const Stmt &statement) {
    if (const auto *let = statement.as<LetStmt>()) {
        return accumulator(let->body);
    }
    const auto *allocate = statement.as<Allocate>();
    return allocate != nullptr && allocate->memory_type == MemoryType::AMXTile ? allocate : nullptr;
}

std::vector<Stmt> steps_of(const Stmt &statement, const std::string &name) {
    if (const auto *let = statement.as<LetStmt>()) {
        return steps_of(substitute(let->name, let->value, let->body), name);
    }
    const auto *allocate = statement.as<Allocate>();
    std::vector<Stmt> steps;
    collect(RenameBuffer(allocate->name, name).mutate(allocate->body), steps);
    return steps;
}

// The operands that a group of multiplications loads. One that the group before had loaded, too, is still there.
class ShareLoads : public IRMutator {
public:
    // Replaces the loads of one multiplication, and says which are new.
    Stmt share(const Stmt &statement, std::vector<std::pair<std::string, Expr>> &added) {
        added_ = &added;
        return mutate(statement);
    }
    void end_group() {
        std::erase_if(held_, [](const Held &one) { return !one.used; });
        for (Held &one : held_) {
            one.used = false;
        }
    }

private:
    struct Held {
        Expr load;
        std::string name;
        bool used;
    };
    using IRMutator::visit;
    Expr visit(const Call *call) override {
        if (call->name != "tile_load") {
            return IRMutator::visit(call);
        }
        const auto found = std::ranges::find_if(held_, [&](const Held &one) { return equal(one.load, call); });
        if (found != held_.end()) {
            found->used = true;
            return Variable::make(call->type, found->name);
        }
        held_.push_back({call, unique_name("operand"), true});
        added_->emplace_back(held_.back().name, call);
        return Variable::make(call->type, held_.back().name);
    }

    std::vector<Held> held_;
    std::vector<std::pair<std::string, Expr>> *added_ = nullptr;
};

// Groups of one step each, every operand bound to a name before its first use.
Stmt with_shared_loads(const std::vector<std::vector<Stmt>> &groups) {
    ShareLoads loads;
    std::vector<std::pair<std::vector<std::pair<std::string, Expr>>, Stmt>> all;
    for (const std::vector<Stmt> &group : groups) {
        for (const Stmt &statement : group) {
            std::vector<std::pair<std::string, Expr>> added;
            const Stmt shared = loads.share(statement, added);
            all.emplace_back(std::move(added), shared);
        }
        loads.end_group();
    }
    Stmt rest;
    for (auto step = all.rbegin(); step != all.rend(); ++step) {
        rest = rest.defined() ? Block::make(step->second, rest) : step->second;
        for (auto load = step->first.rbegin(); load != step->first.rend(); ++load) {
            rest = LetStmt::make(load->first, load->second, rest);
        }
    }
    return rest;
}

bool same_loop(const For *a, const For *b) {
    return a != nullptr && b != nullptr && equal(a->min, b->min) && equal(a->extent, b->extent);
}

// One loop for all accumulators; undefined if they do not step alike.
Stmt join_loops(const std::vector<Stmt> &loops) {
    const auto *first = loops[0].as<For>();
    std::vector<std::vector<Stmt>> bodies;
    for (const Stmt &one : loops) {
        const auto *loop = one.as<For>();
        if (!same_loop(first, loop)) {
            return {};
        }
        collect(substitute(loop->name, Variable::make(Int(32), first->name), loop->body), bodies.emplace_back());
    }
    std::vector<std::vector<Stmt>> groups(bodies[0].size());
    for (const std::vector<Stmt> &body : bodies) {
        if (body.size() != groups.size()) {
            return {};
        }
        for (size_t i = 0; i < body.size(); i++) {
            if (body[i].as<Store>() == nullptr) {
                return {};
            }
            groups[i].push_back(body[i]);
        }
    }
    return For::make(first->name, first->min, first->extent, first->for_type, first->partition_policy, first->device_api, with_shared_loads(groups));
}

// Undefined if the accumulators do not do the same.
Stmt join(const std::vector<Stmt> &tiles) {
    std::vector<std::vector<Stmt>> steps;
    std::vector<std::string> names;
    for (const Stmt &tile : tiles) {
        names.push_back(unique_name(accumulator(tile)->name));
        steps.push_back(steps_of(tile, names.back()));
    }
    std::vector<Stmt> joined;
    for (size_t i = 0; i < steps[0].size(); i++) {
        std::vector<Stmt> alike;
        for (const std::vector<Stmt> &own : steps) {
            if (own.size() != steps[0].size() || own[i].node_type() != steps[0][i].node_type()) {
                return {};
            }
            alike.push_back(own[i]);
        }
        joined.push_back(alike[0].as<For>() == nullptr ? Block::make(alike) : join_loops(alike));
        if (!joined.back().defined()) {
            return {};
        }
    }
    for (const std::string &name : names) {
        joined.push_back(Free::make(name));
    }
    Stmt all = Block::make(joined);
    for (size_t i = tiles.size(); i-- > 0;) {
        const Allocate *own = accumulator(tiles[i]);
        all = Allocate::make(names[i], own->type, own->memory_type, own->extents, own->condition, all);
    }
    return all;
}

}  // namespace

Stmt JoinTiles::visit(const Block *block) {
    std::vector<Stmt> given, made;
    flatten(block, given);
    for (size_t i = 0; i < given.size();) {
        size_t end = i;
        while (end < given.size() && end - i < kAccumulators && accumulator(given[end]) != nullptr) {
            end++;
        }
        const Stmt joined = end - i < 2 ? Stmt() : join({given.begin() + static_cast<ptrdiff_t>(i), given.begin() + static_cast<ptrdiff_t>(end)});
        if (joined.defined()) {
            made.push_back(joined);
            i = end;
        } else {
            made.push_back(mutate(given[i]));
            i++;
        }
    }
    return Block::make(made);
}

}  // namespace moa::codegen
