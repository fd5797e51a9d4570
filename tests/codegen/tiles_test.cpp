#include "generators/codegen/tiles.h"
#include "tests/codegen/count.h"

#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <iterator>
#include <sstream>
#include <string>
#include <unistd.h>
#include <vector>

namespace moa::codegen {
namespace {

using namespace Halide;
using namespace Halide::Internal;

const Expr every = Ramp::make(0, 1, 256);

Expr tile_load(const std::string &buffer, const Expr &base) {
    return Call::make(BFloat(16, 512), "tile_load", {16, 64, Variable::make(Handle(), buffer), base, 64}, Call::Intrinsic);
}

// An accumulator of products of a's tile at `first` and b's, as Halide lowers it.
Stmt accumulator(const std::string &name, const std::string &loop, int first, const Expr &steps) {
    const Expr sums = Load::make(Float(32, 256), name, every, {}, {}, const_true(256), {});
    const Expr step = Variable::make(Int(32), loop), at = Variable::make(Int(32), "at");
    const Expr product = Call::make(Float(32, 256), "tile_matmul", {16, 64, 32, sums, tile_load("a", at + step), tile_load("b", step)}, Call::Intrinsic);
    const auto store = [&](const Expr &value) { return Store::make(name, value, every, {}, const_true(256), {}); };
    const Stmt products = LetStmt::make("at", first, For::make(loop, 0, steps, ForType::Serial, Partition::Auto, DeviceAPI::None, store(product)));
    const Stmt zero = store(Call::make(Float(32, 256), "tile_zero", {16, 64}, Call::Intrinsic));
    const Stmt out = Evaluate::make(Call::make(Int(32), "tile_store", {16, 64, Variable::make(Handle(), "c"), first, 128, sums}, Call::Intrinsic));
    const Stmt body = Block::make({ProducerConsumer::make(name, true, Block::make(zero, products)), ProducerConsumer::make(name, false, out), Free::make(name)});
    return Allocate::make(name, Float(32, 256), MemoryType::AMXTile, {1}, const_true(), body);
}

std::string text_of(const Stmt &statement) {
    std::ostringstream text;
    text << statement;
    return text.str();
}

TEST(JoinTiles, OneLoopMultipliesIntoAllAccumulators) {
    const std::string text = text_of(JoinTiles().mutate(Block::make(accumulator("sums", "x", 0, 8), accumulator("sums", "y", 100, 8))));
    EXPECT_EQ(count(text, "for ("), 1U) << text;
    EXPECT_EQ(count(text, "tile_matmul("), 2U) << text;
    EXPECT_EQ(count(text, "tile_load("), 3U) << "b's tile is loaded once\n"
                                             << text;
    EXPECT_EQ(count(text, "allocate "), 2U) << text;
    EXPECT_EQ(count(text, "tile_store("), 2U) << text;
    EXPECT_LT(text.rfind("tile_zero("), text.find("for (")) << text;
    EXPECT_LT(text.rfind("tile_matmul("), text.find("tile_store(")) << text;
}

TEST(JoinTiles, LoopsOfOtherLengthsStayApart) {
    const Stmt given = Block::make(accumulator("sums", "x", 0, 8), accumulator("sums", "y", 100, 9));
    EXPECT_EQ(text_of(JoinTiles().mutate(given)), text_of(given));
}

TEST(JoinTiles, NoMoreThanFourFitTheRegisters) {
    std::vector<Stmt> all;
    all.reserve(6);
    for (int i = 0; i < 6; i++) {
        all.push_back(accumulator("sums", "x" + std::to_string(i), i, 8));
    }
    EXPECT_EQ(count(text_of(JoinTiles().mutate(Block::make(all))), "for ("), 2U);
}

// From a schedule down to instructions: 32 x 32 sums are four tiles, which take four operands a step and are stored once.
TEST(JoinTiles, BecomesInstructionsWithoutSpills) {
    ImageParam a(BFloat(16), 2, "a"), b(BFloat(16), 2, "b");
    Var i("i"), m("m"), across("across"), down("down");
    Func sums("sums"), out("out");
    const RDom k(0, 32, 0, 10, "k");
    sums(i, m) = 0.f;
    sums(i, m) += cast<float>(a(k.y * 32 + k.x, m)) * cast<float>(b(i * 2 + k.x % 2, k.y * 16 + k.x / 2));
    out(i, m) = sums(i, m);
    out.bound(i, 0, 32).bound(m, 0, 32).split(i, across, i, 16).split(m, down, m, 16).reorder(i, m, across, down).vectorize(i).vectorize(m).unroll(across).unroll(down);
    sums.compute_at(out, across).store_in(MemoryType::AMXTile).bound_extent(i, 16).bound_extent(m, 16).vectorize(i).vectorize(m);
    sums.update().reorder(k.x, i, m, k.y).atomic().vectorize(k.x).vectorize(i).vectorize(m);
    b.dim(0).set_bounds(0, 64);
    b.dim(1).set_stride(64);
    Pipeline pipeline(out);
    pipeline.add_custom_lowering_pass(new JoinTiles);
    const auto file = std::filesystem::temp_directory_path() / ("moa_tiles_" + std::to_string(getpid()) + ".s");
    const Target target("x86-64-linux-avx-avx2-fma-f16c-sse41-avx512-avx512_skylake-avx512_cannonlake-avx512_sapphirerapids-no_runtime-no_asserts-no_bounds_query");
    pipeline.compile_to_assembly(file.string(), {a, b}, "sums", target);
    std::ifstream stream(file);
    const std::string text{std::istreambuf_iterator<char>(stream), {}};
    std::filesystem::remove(file);
    EXPECT_EQ(count(text, "tdpbf16ps"), 4U) << text;
    EXPECT_EQ(count(text, "tileloadd"), 4U) << text;
    EXPECT_EQ(count(text, "tilestored"), 4U) << text;
}

}  // namespace
}  // namespace moa::codegen
