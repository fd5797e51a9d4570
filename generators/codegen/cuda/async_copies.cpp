#include "generators/codegen/cuda/markers.h"
#include "generators/codegen/cuda/passes.h"
#include "generators/codegen/cuda/threads.h"

#include <algorithm>
#include <set>
#include <sstream>
#include <stdexcept>
#include <unordered_set>
#include <utility>

namespace moa::codegen::cuda {

using namespace Halide;
using namespace Halide::Internal;

namespace {

using marker::kCopyBytes;

// What threads touch in one iteration, in units of a copy.
using Footprint = std::unordered_set<int64_t>;

bool disjoint(const Footprint &a, const Footprint &b) {
    const Footprint &small = a.size() < b.size() ? a : b, &large = a.size() < b.size() ? b : a;
    return std::none_of(small.begin(), small.end(), [&](int64_t unit) { return large.contains(unit); });
}

// The accesses of shared memory and the barriers of a loop's body, in program order.
class Scan : public IRVisitor {
public:
    struct Access {
        int buffer;
        Expr index;  // of the first element
        int element_bytes, lanes;
    };
    std::vector<Access> reads, copies;
    std::vector<Access> tiles;  // of products of warpgroups; named by a word that is in `reads`
    int products = 0;
    std::string trouble;
    int commit_at = -1;  // the barrier, of those in the body, after the last copy

    Scan(const std::set<std::string> &shared, Lets lets)
        : shared_(shared.begin(), shared.end()), lets_(std::move(lets)) {
    }

private:
    using IRVisitor::visit;
    std::vector<std::string> shared_;
    Lets lets_;
    int barriers_ = 0, nesting_ = 0;

    int buffer(const std::string &name) const {
        const auto it = std::find(shared_.begin(), shared_.end(), name);
        return it == shared_.end() ? -1 : static_cast<int>(it - shared_.begin());
    }
    void complain(const std::string &what) {
        if (trouble.empty()) {
            trouble = what;
        }
    }
    Access access(int buffer, const Expr &index, const Type &type) {
        const Ramp *ramp = index.as<Ramp>();
        if (type.is_vector() && (ramp == nullptr || !is_const_one(ramp->stride))) {
            complain("shared memory is accessed by vectors that are not dense");
        }
        return {buffer, lets_.inline_into(ramp != nullptr ? ramp->base : index), type.bytes(), type.lanes()};
    }
    void visit(const LetStmt *op) override {
        op->value.accept(this);
        lets_.add(op->name, op->value);
        op->body.accept(this);
    }
    void visit(const Let *op) override {
        op->value.accept(this);
        lets_.add(op->name, op->value);
        op->body.accept(this);
    }
    void visit(const For *op) override {
        nesting_++;
        IRVisitor::visit(op);
        nesting_--;
    }
    void visit(const IfThenElse *op) override {
        nesting_++;
        IRVisitor::visit(op);
        nesting_--;
    }
    void visit(const Load *op) override {
        IRVisitor::visit(op);
        if (const int from = buffer(op->name); from >= 0) {
            reads.push_back(access(from, op->index, op->type));
        }
    }
    void visit(const Store *op) override {
        IRVisitor::visit(op);
        const int to = buffer(op->name);
        if (to < 0) {
            return;
        }
        const Load *from = op->value.as<Load>();
        const Type type = op->value.type();
        if (from == nullptr || buffer(from->name) >= 0 || type.bits() * type.lanes() != 8 * kCopyBytes) {
            std::ostringstream text;
            text << "shared memory is not stored to by 16-byte copies of global memory only: " << Stmt(op);
            complain(text.str());
        }
        if (!reads.empty()) {
            complain("a tile is read before the last copy: its group would be committed too late");
        }
        copies.push_back(access(to, op->index, type));
        commit_at = -1;
    }
    // A tile of a product: `rows` rows in parts, of which the load is the first word.
    void add_tile(const Expr &word, int rows, int row_bytes, int parts, int part_bytes) {
        const Load *load = word.as<Load>();
        if (load == nullptr || buffer(load->name) < 0) {
            complain("a tile of a product is not named by its first word in shared memory");
            return;
        }
        const int element = load->type.bytes(), of_eight_rows = 8 * row_bytes / element;
        Access tile = access(buffer(load->name), load->index, load->type);
        const ModulusRemainder known = modulus_remainder(tile.index);
        if (known.modulus % of_eight_rows != 0 || known.remainder % of_eight_rows != 0) {
            complain("a tile of a product may begin at no multiple of eight rows");
        }
        tile.lanes = rows * row_bytes / element;
        for (int part = 0; part < parts; part++) {
            tiles.push_back(tile);
            tile.index += part_bytes / element;
        }
    }
    void add_product(const Call *op) {
        const size_t set = marker::set_of_product(op->name);
        std::vector<int> numbers;  // columns, bytes of a row, parts, bytes of a part of each tile
        for (size_t i = set + 1; i < op->args.size(); i++) {
            const auto constant = as_const_int(op->args[i]);
            if (!constant) {
                complain("the shape of a product is not constant");
                return;
            }
            numbers.push_back(static_cast<int>(*constant));
        }
        products++;
        if (marker::is_mix(op->name)) {
            add_tile(op->args[1], marker::kRowsOfMix, numbers[1], numbers[2], numbers[3]);
        } else {
            add_tile(op->args[1], marker::kRowsOfGroup, numbers[1], numbers[2], numbers[3]);
            add_tile(op->args[2], numbers[0], numbers[1], numbers[2], numbers[4]);
        }
    }
    void visit(const Call *op) override {
        IRVisitor::visit(op);
        if (marker::is_product(op->name)) {
            add_product(op);
        }
        if (!op->is_intrinsic(Call::gpu_thread_barrier)) {
            return;
        }
        if (commit_at < 0 && !copies.empty()) {
            commit_at = barriers_;
            if (nesting_ > 0) {
                complain("the barrier after the copies is in a loop or under a condition");
            }
        }
        barriers_++;
    }
};

bool footprints(const std::vector<Scan::Access> &accesses, const Threads &threads, const std::string &loop, std::vector<Footprint> &out) {
    for (size_t i = 0; i < out.size(); i++) {
        std::vector<int> before(accesses.size(), -1);  // tiles are those of many threads
        for (int thread = 0; thread < threads.count(); thread++) {
            std::map<std::string, int> variables = threads.variables(thread);
            variables[loop] = static_cast<int>(i);
            for (size_t a = 0; a < accesses.size(); a++) {
                const Scan::Access &access = accesses[a];
                const auto index = value_of(access.index, variables);
                if (!index) {
                    return false;
                }
                if (*index == std::exchange(before[a], *index)) {
                    continue;
                }
                const int64_t first = int64_t{*index} * access.element_bytes, last = first + int64_t{access.element_bytes} * access.lanes - 1;
                for (int64_t unit = first / kCopyBytes; unit <= last / kCopyBytes; unit++) {
                    out[i].insert((int64_t{access.buffer} << 32) + unit);
                }
            }
        }
    }
    return true;
}

Stmt call(const char *name, const std::vector<Expr> &arguments) {
    return Evaluate::make(Call::make(Int(32), name, arguments, Call::Extern));
}

Stmt barrier() {
    return Evaluate::make(Call::make(Int(32), Call::gpu_thread_barrier, {0}, Call::Intrinsic));
}

class FindStores : public IRVisitor {
public:
    explicit FindStores(const std::vector<std::string> &names)
        : names_(names) {
    }
    bool found = false;

private:
    using IRVisitor::visit;
    const std::vector<std::string> &names_;
    void visit(const Store *op) override {
        found = found || std::find(names_.begin(), names_.end(), op->name) != names_.end();
    }
};

class PipelineCopies : public ScopedLets {
public:
    PipelineCopies(const std::vector<std::string> &pipelined, std::vector<CopyLoop> &loops)
        : pipelined_(pipelined), loops_(loops) {
    }

private:
    using ScopedLets::visit;
    const std::vector<std::string> &pipelined_;
    std::vector<CopyLoop> &loops_;
    std::set<std::string> shared_;
    Threads threads_;
    bool inside_ = false;
    int barrier_ = 0, commit_at_ = 0;

    Stmt visit(const Allocate *op) override {
        if (op->memory_type == MemoryType::GPUShared) {
            shared_.insert(op->name);
        }
        return IRMutator::visit(op);
    }

    CopyLoop plan(const For *op, const Scan &scan) const {
        constexpr int kRounds = 12, kDeepest = 6;
        std::vector<Footprint> reads(kRounds), copies(kRounds), tiles(kRounds);
        std::string trouble = scan.trouble;
        if (trouble.empty() && scan.commit_at < 0) {
            trouble = "there is no barrier after the copies";
        }
        if (trouble.empty() && !(footprints(scan.reads, threads_, op->name, reads) && footprints(scan.copies, threads_, op->name, copies) && footprints(scan.tiles, threads_, op->name, tiles))) {
            trouble = "an index of shared memory depends on more than the thread and the loop";
        }
        CopyLoop loop{op->name, static_cast<int>(scan.copies.size()), kDeepest, scan.products, scan.products == 0 ? 0 : kDeepest};
        for (int i = kDeepest; trouble.empty() && i < kRounds; i++) {
            for (int back = 0; back < loop.in_flight; back++) {
                if (!disjoint(reads[i], copies[i - 1 - back])) {
                    loop.in_flight = back;
                }
            }
            for (int back = 0; back < loop.unfinished; back++) {
                if (!disjoint(tiles[i - 1 - back], copies[i])) {
                    loop.unfinished = back;
                }
            }
            if (!disjoint(reads[i], copies[i]) || !disjoint(tiles[i], copies[i])) {
                trouble = "a copy overwrites the tile that is read";
            }
        }
        if (!trouble.empty()) {
            throw std::runtime_error("loop " + op->name + " cannot copy asynchronously: " + trouble);
        }
        return loop;
    }

    Stmt visit(const For *op) override {
        if (op->for_type == ForType::GPUBlock) {
            threads_ = Threads(op->body);
        }
        FindStores stores(pipelined_);
        op->body.accept(&stores);
        if (op->for_type != ForType::Serial || inside_ || !stores.found) {
            return IRMutator::visit(op);
        }
        Scan scan(shared_, lets_);
        op->body.accept(&scan);
        const CopyLoop loop = plan(op, scan);
        loops_.push_back(loop);
        ScopedValue<bool> inside(inside_, true);
        barrier_ = 0;
        commit_at_ = scan.commit_at;
        const auto wait = [&](int copies, int products) {
            std::vector<Stmt> all = {call(marker::kWaitForCopies, {copies})};
            if (loop.products > 0) {
                all.push_back(call(marker::kShowToProducts, {}));
                all.push_back(call(marker::kWaitForProducts, {products}));
            }
            all.push_back(barrier());
            return Block::make(all);
        };
        const Stmt body = Block::make(wait(loop.in_flight, loop.unfinished * loop.products), mutate(op->body));
        // Others may use the memory after the loop: nothing may still arrive there, nor be read.
        return Block::make(For::make(op->name, op->min, op->extent, op->for_type, op->partition_policy, op->device_api, body), wait(0, 0));
    }

    Stmt visit(const Evaluate *op) override {
        const Call *c = op->value.as<Call>();
        if (!inside_ || c == nullptr || !c->is_intrinsic(Call::gpu_thread_barrier)) {
            return IRMutator::visit(op);
        }
        return barrier_++ == commit_at_ ? call(marker::kCommitCopies, {}) : Evaluate::make(0);
    }
};

}  // namespace

Stmt pipeline_copies(const Stmt &s, const std::vector<std::string> &pipelined, std::vector<CopyLoop> &loops) {
    return PipelineCopies(pipelined, loops).mutate(s);
}

}  // namespace moa::codegen::cuda
