#include "generators/codegen/cuda/markers.h"
#include "generators/codegen/cuda/passes.h"
#include "generators/codegen/cuda/threads.h"
#include "tests/codegen/count.h"

#include <gtest/gtest.h>
#include <sstream>
#include <stdexcept>
#include <string>

namespace moa::codegen::cuda {
namespace {

using namespace Halide;
using namespace Halide::Internal;

Expr variable(const std::string &name) {
    return Variable::make(Int(32), name);
}

Expr load(const Type &type, const std::string &name, const Expr &index) {
    return Load::make(type, name, index, Buffer<>(), Parameter(), const_true(type.lanes()), ModulusRemainder());
}

Stmt store(const std::string &name, const Expr &value, const Expr &index) {
    return Store::make(name, value, index, Parameter(), const_true(value.type().lanes()), ModulusRemainder());
}

Stmt loop(const std::string &name, const Expr &extent, ForType type, const Stmt &body) {
    return For::make(name, 0, extent, type, Partition::Auto, DeviceAPI::None, body);
}

Stmt barrier() {
    return Evaluate::make(Call::make(Int(32), Call::gpu_thread_barrier, {0}, Call::Intrinsic));
}

// A block of 32 threads with one allocation.
Stmt block(const std::string &name, const Type &type, MemoryType memory, int size, const Stmt &body) {
    const Stmt threads = loop("t", 32, ForType::GPUThread, body);
    return loop("b", 8, ForType::GPUBlock, Allocate::make(name, type, memory, {size}, const_true(), threads));
}

std::string text_of(const Stmt &s) {
    std::ostringstream text;
    text << s;
    return text.str();
}

TEST(CudaIndices, AreComputedWithRoundingDown) {
    const std::map<std::string, int> variables = {{"i", -3}};
    EXPECT_EQ(value_of(Div::make(variable("i"), 2), variables), -2);
    EXPECT_EQ(value_of(Mod::make(variable("i"), 2), variables), 1);
    EXPECT_EQ(value_of(variable("j"), variables), std::nullopt);
}

TEST(CudaPasses, LeaveKernelsWithoutMarkersAlone) {
    const Stmt plain = block("f", Float(32), MemoryType::Register, 64, store("f", 1.f, variable("t")));
    std::vector<CopyLoop> loops;
    EXPECT_TRUE(lower_tensor_core(plain, loops).same_as(plain));
}

TEST(CudaPasses, VectorsOfSharedMemoryLieWhereTheyMay) {
    const auto reads = [](const Expr &first) {
        const Expr vector = Load::make(Float(32, 4), "f", Ramp::make(first, 1, 4), Buffer<>(), Parameter(), const_true(4), ModulusRemainder(4, 0));
        return block("f", Float(32), MemoryType::GPUShared, 64, Evaluate::make(vector));
    };
    const Expr n = variable("n"), padded = (n + 3) / 4 * 4;
    EXPECT_NO_THROW(check_alignment(reads(variable("t") * 4 + max(padded, 32))));
    EXPECT_NO_THROW(check_alignment(LetStmt::make("start", n * 20, reads(variable("start") + 128))));
    EXPECT_THROW(check_alignment(reads(variable("t") * 4 + max(n, 32))), std::runtime_error);
    EXPECT_THROW(check_alignment(LetStmt::make("start", max(n, 32), reads(variable("start") + 128))), std::runtime_error);
}

TEST(CudaPasses, WhatIsOnlyInSightIsNotComputed) {
    const Expr always = Call::make(Bool(), marker::kAlways, {}, Call::Extern);
    const Expr ahead = Call::make(Float(32), marker::kAhead, {load(UInt(32), "tile", 7)}, Call::Extern);
    std::vector<std::string> pipelined;
    const Stmt decided = decide_sight(store("f", Select::make(always, variable("a") + 0.f, ahead), 0), pipelined);
    EXPECT_EQ(pipelined, std::vector<std::string>{"tile"});
    EXPECT_EQ(count(text_of(decided), "tile"), 0u);
    EXPECT_EQ(count(text_of(decided), "moa_"), 0u);
}

TEST(CudaPasses, WordsAreLoadsOfHalfTheIndex) {
    const Expr element = load(UInt(16), "tile", variable("i") * 8 + 6);
    const Stmt read = read_words(store("f", Call::make(UInt(32), marker::kWord, {element}, Call::PureExtern), 0));
    EXPECT_EQ(count(text_of(read), "tile[(i*4) + 3]"), 1u) << text_of(read);
    EXPECT_THROW(read_words(store("f", Call::make(UInt(32), marker::kWord, {variable("i")}, Call::PureExtern), 0)), std::runtime_error);
}

TEST(CudaPasses, ACopyUnderAnotherNameIsALoadAndAStore) {
    const Expr elements = load(BFloat(16, 8), "x", Ramp::make(variable("i"), 1, 8));
    const Stmt read = read_words(store("tile", reinterpret(UInt(16, 8), elements), Ramp::make(0, 1, 8)));
    const auto *copy = read.as<Store>();
    ASSERT_NE(copy, nullptr);
    ASSERT_NE(copy->value.as<Load>(), nullptr);
    EXPECT_EQ(copy->value.type(), UInt(16, 8));
}

TEST(CudaPasses, OutputsAreStoredBy16Bytes) {
    const Halide::Parameter out(BFloat(16), true, 1, "out");
    const auto stored = [&](const Type &type, const ModulusRemainder &at, const Halide::Parameter &to) {
        return Store::make("out", Broadcast::make(cast(type.element_of(), variable("x")), type.lanes()), Ramp::make(variable("i"), 1, type.lanes()), to, const_true(type.lanes()), at);
    };
    const std::string halves = text_of(store_16_bytes(stored(BFloat(16, 8), ModulusRemainder(8, 0), out)));
    EXPECT_EQ(count(halves, "out[ramp"), 1u);
    EXPECT_NE(halves.find("reinterpret<uint32x4>"), std::string::npos) << halves;
    EXPECT_NE(halves.find("out[ramp(i/2, 1, 4)"), std::string::npos) << halves;
    const std::string words = text_of(store_16_bytes(stored(Float(32, 8), ModulusRemainder(4, 0), out)));
    EXPECT_EQ(count(words, "out[ramp"), 2u) << words;
    EXPECT_NE(words.find("out[ramp(i + 4, 1, 4)"), std::string::npos) << words;
    for (const Stmt &other : {stored(BFloat(16, 8), ModulusRemainder(4, 0), out), stored(BFloat(16, 4), ModulusRemainder(8, 0), out),
                              stored(BFloat(16, 8), ModulusRemainder(8, 0), Halide::Parameter())}) {
        EXPECT_EQ(text_of(store_16_bytes(other)), text_of(other)) << "unaligned, narrow, or in no output";
    }
}

TEST(CudaPasses, RegistersAreStriped) {
    const Expr t = variable("t");
    const Stmt striped = stripe_registers(block("f", Float(32), MemoryType::Register, 128, store("f", load(Float(32), "f", t + 32) + 1.f, t + 96)));
    const std::string text = text_of(striped);
    EXPECT_EQ(count(text, "allocate f[float32 * 4]"), 1u) << text;
    EXPECT_EQ(count(text, "f[3] = "), 1u) << text;
    EXPECT_EQ(count(text, "f[1]"), 1u) << text;
}

TEST(CudaPasses, AnotherThreadsRegistersAreRefused) {
    const Expr t = variable("t");
    const auto body = [&](const Expr &index) { return block("f", Float(32), MemoryType::Register, 64, store("f", 1.f, index)); };
    EXPECT_THROW(stripe_registers(body(31 - t)), std::runtime_error);
    EXPECT_THROW(stripe_registers(body(t + variable("k") * 32)), std::runtime_error) << "registers cannot be indexed at run time";
    EXPECT_THROW(stripe_registers(body(t / 2)), std::runtime_error);
}

// A ring of `slots` tiles of 128 words, filled `ahead` iterations ahead.
Stmt ring(int slots, int ahead, bool read_first = false) {
    const Expr t = variable("t"), k = variable("k");
    const Type chunk = UInt(32, 4);
    const Stmt copy = store("tile", load(chunk, "x", Ramp::make((k + ahead) * 128 + t * 4, 1, 4)), Ramp::make((k + ahead) % slots * 128 + t * 4, 1, 4));
    const Stmt read = store("out", load(UInt(32), "tile", k % slots * 128 + (t * 4 + 7) % 128), t);
    const Stmt body = read_first ? Block::make({read, barrier(), copy, barrier()}) : Block::make({copy, barrier(), read, barrier()});
    return block("tile", UInt(32), MemoryType::GPUShared, slots * 128, loop("k", variable("n"), ForType::Serial, body));
}

TEST(CudaPasses, CopiesRunAheadWithOneBarrierAnIteration) {
    for (const int stages : {2, 3, 4}) {
        std::vector<CopyLoop> loops;
        const std::string text = text_of(pipeline_copies(ring(stages, stages - 1), {"tile"}, loops));
        ASSERT_EQ(loops.size(), 1u);
        EXPECT_EQ(loops[0].copies, 1);
        EXPECT_EQ(loops[0].in_flight, stages - 2);
        EXPECT_EQ(count(text, "gpu_thread_barrier"), 2u) << "one in the loop, one after it: " << text;
        const size_t wait = text.find(std::string(marker::kWaitForCopies) + "(" + std::to_string(stages - 2) + ")"), copy = text.find("x["), commit = text.find(marker::kCommitCopies),
                     read = text.find("out[");
        ASSERT_NE(wait, std::string::npos) << text;
        EXPECT_LT(wait, text.find("gpu_thread_barrier"));
        EXPECT_LT(text.find("gpu_thread_barrier"), copy);
        EXPECT_LT(copy, commit);
        EXPECT_LT(commit, read);
    }
}

TEST(CudaPasses, CopiesThatCannotBeCoveredAreRefused) {
    std::vector<CopyLoop> loops;
    EXPECT_THROW(pipeline_copies(ring(3, 2, true), {"tile"}, loops), std::runtime_error) << "committed an iteration late";
    EXPECT_THROW(pipeline_copies(ring(2, 2), {"tile"}, loops), std::runtime_error) << "the ring is too short";
}

// The ring's loop with a product of warpgroups of its tile, which is 64 rows of 128 bytes, by itself.
Stmt ring_of_products(int slots, int ahead, int first = 0) {
    const Expr k = variable("k");
    const auto tile = [&](const Expr &step) { return step % slots * 2048; };
    const Stmt copy = loop(".thread_id_x", 512, ForType::GPUThread,
                           Store::make("tile", Load::make(UInt(32, 4), "x", Ramp::make(variable(".thread_id_x") * 4, 1, 4), {}, {}, const_true(4), {}), Ramp::make(tile(k + ahead) + variable(".thread_id_x") * 4, 1, 4), {}, const_true(4), {}));
    const Expr word = Load::make(UInt(32), "tile", tile(k) + first, {}, {}, const_true(), {});
    const Expr product = Call::make(Int(32), marker::kMultiplyBf16, {0, word, word, 0, 64, 128, 1, 0, 0, 0}, Call::Extern);
    const Stmt use = loop(".thread_id_x", 512, ForType::GPUThread, Store::make("out", product, 0, {}, const_true(), {}));
    return block("tile", UInt(32), MemoryType::GPUShared, slots * 2048, loop("k", variable("n"), ForType::Serial, Block::make({copy, barrier(), use, barrier()})));
}

TEST(CudaPasses, ProductsOfWarpgroupsAreWaitedForBeforeTheirTilesAreOverwritten) {
    for (const int unfinished : {0, 1, 2}) {
        std::vector<CopyLoop> loops;
        const std::string text = text_of(pipeline_copies(ring_of_products(4, 3 - unfinished), {"tile"}, loops));
        ASSERT_EQ(loops.size(), 1u);
        EXPECT_EQ(loops[0].products, 1);
        EXPECT_EQ(loops[0].unfinished, unfinished);
        const size_t shown = text.find(marker::kShowToProducts), waited = text.find(std::string(marker::kWaitForProducts) + "(" + std::to_string(unfinished) + ")");
        ASSERT_NE(waited, std::string::npos) << text;
        EXPECT_LT(text.find(marker::kWaitForCopies), shown);
        EXPECT_LT(waited, text.find("gpu_thread_barrier"));
        EXPECT_NE(text.rfind(std::string(marker::kWaitForProducts) + "(0)"), std::string::npos) << "after the loop";
    }
}

TEST(CudaPasses, MarkedProductsBeginBeforeTheirIterationsCopies) {
    const std::vector<CopyLoop> loops = {{"k", 1, 0, 1, 0}};
    const auto calls = [](const char *name, int argument) { return Evaluate::make(Call::make(Int(32), name, {argument}, Call::Extern)); };
    const Expr k = variable("k"), sums = Call::make(Int(32), marker::kMultiplyBf16, {0}, Call::Extern);
    const auto body = [&](const Expr &product, const Expr &guard, const Expr &copied) {
        const Stmt rest = Block::make(store("sums", product, 0), calls("moa_softmax", 7));
        return Block::make({calls(marker::kWaitForCopies, 0), calls(marker::kWaitForProducts, 0), barrier(), ProducerConsumer::make_produce("tile", store("tile", copied, k)),
                            calls(marker::kCommitCopies, 0), ProducerConsumer::make_consume("tile", IfThenElse::make(guard, rest))});
    };
    const Expr element = load(UInt(32), "x", k);
    const auto of = [&](const Expr &product, const Expr &guard, const Expr &copied) { return loop("k", variable("n"), ForType::Serial, body(product, guard, copied)); };
    const Expr marked = Call::make(Int(32), marker::kBeforeCopies, {sums}, Call::Extern);
    const std::string text = text_of(begin_products_first(of(marked, 1 <= k, element), loops));
    EXPECT_EQ(count(text, "for ("), 2u) << text;
    EXPECT_EQ(count(text, marker::kBeforeCopies), 0u);
    EXPECT_EQ(count(text, marker::kWaitForCopies), 1u) << "nothing is waited for before the first tile is copied: " << text;
    EXPECT_EQ(count(text, "produce tile"), 2u);
    const size_t product = text.find(marker::kMultiplyBf16), copies = text.find("produce tile", product), softmax = text.find("moa_softmax");
    EXPECT_LT(product, copies) << text;
    EXPECT_LT(copies, text.find(marker::kCommitCopies, product));
    EXPECT_LT(text.find(marker::kCommitCopies, product), softmax);
    EXPECT_EQ(text.find("if ("), std::string::npos);

    const Stmt unmarked = of(sums, 1 <= k, element);
    EXPECT_EQ(text_of(begin_products_first(unmarked, loops)), text_of(unmarked));
    EXPECT_THROW(begin_products_first(of(marked, variable("m") <= k, element), loops), std::runtime_error) << "how many iterations only copy?";
    EXPECT_THROW(begin_products_first(of(marked, 1 <= k, element + 1), loops), std::runtime_error) << "the products may need it";
}

TEST(CudaPasses, TilesOfProductsBeginAtEightRows) {
    std::vector<CopyLoop> loops;
    EXPECT_THROW(pipeline_copies(ring_of_products(4, 3, 32), {"tile"}, loops), std::runtime_error) << "at the second";
    EXPECT_THROW(pipeline_copies(ring_of_products(4, 4), {"tile"}, loops), std::runtime_error) << "the ring is too short";
}

TEST(CudaPasses, LoopsOfOtherCopiesKeepTheirBarriers) {
    std::vector<CopyLoop> loops;
    const Stmt plain = ring(3, 2);
    EXPECT_EQ(text_of(pipeline_copies(plain, {"another"}, loops)), text_of(plain));
    EXPECT_TRUE(loops.empty());
}

}  // namespace
}  // namespace moa::codegen::cuda
