#include "generators/codegen/prefetch.h"
#include "tests/codegen/count.h"

#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <iterator>
#include <regex>
#include <stdexcept>
#include <string>
#include <unistd.h>

namespace moa::codegen {
namespace {

using namespace Halide;
using namespace Halide::Internal;

Stmt prefetch(const Type &type, const Expr &offset) {
    const Expr base = Variable::make(Handle(), "weights");
    return Evaluate::make(Call::make(type, Call::prefetch, {base, offset, 1, 16}, Call::Intrinsic));
}

// As Halide lowers a prefetch of `lines` cache lines.
Stmt prefetch_of_lines(const Expr &lines) {
    const std::string line = "prefetch_split_weights.0";
    const Stmt body = prefetch(Float(32), Variable::make(Int(32), line) * 64 + Variable::make(Int(32), "first"));
    return For::make(line, 0, lines, ForType::Serial, Partition::Auto, DeviceAPI::None, body);
}

TEST(PrefetchLines, FetchesEveryLineIntoAllLevels) {
    std::ostringstream text;
    text << simplify(PrefetchLines().mutate(prefetch_of_lines(3)));
    const std::string all = text.str();
    EXPECT_EQ(all.find("for ("), std::string::npos) << all;
    for (const std::string element : {"(first)", "(first + 16)", "(first + 32)"}) {
        EXPECT_NE(all.find("int64" + element), std::string::npos) << element << " is missing in\n"
                                                                  << all;
    }
    const std::regex call("llvm\\.prefetch\\.p0\\(.*, 0, 3, 1\\)");
    EXPECT_EQ(std::distance(std::sregex_iterator(all.begin(), all.end(), call), std::sregex_iterator()), 3) << all;
}

TEST(PrefetchLines, RefusesLoopsOfUnknownLength) {
    EXPECT_THROW(PrefetchLines().mutate(prefetch_of_lines(Variable::make(Int(32), "lines"))), std::runtime_error);
}

// From a schedule down to instructions: 32 floats a row are two lines.
TEST(PrefetchLines, BecomesInstructions) {
    ImageParam weights(Float(32), 2, "weights");
    Var i("i");
    Func sums("sums");
    const RDom k(0, 1000, "k");
    sums(i) = 0.f;
    sums(i) += weights(i, k);
    sums.bound(i, 0, 32).vectorize(i, 8);
    sums.update().vectorize(i, 8).unroll(i).reorder(i, k).prefetch(weights, k, k, 24, PrefetchBoundStrategy::NonFaulting);
    weights.dim(0).set_bounds(0, 32);
    weights.dim(1).set_stride(32);
    Pipeline pipeline(sums);
    pipeline.add_custom_lowering_pass(new PrefetchLines);
    const auto file = std::filesystem::temp_directory_path() / ("moa_prefetch_" + std::to_string(getpid()) + ".s");
    pipeline.compile_to_assembly(file.string(), {weights}, "sums", Target("x86-64-linux-avx2-fma-no_runtime"));
    std::ifstream stream(file);
    const std::string text{std::istreambuf_iterator<char>(stream), {}};
    std::filesystem::remove(file);
    EXPECT_GE(count(text, "prefetcht0"), 2U);
    EXPECT_EQ(count(text, "prefetcht0") % 2, 0U);
    EXPECT_EQ(count(text, "prefetchnta"), 0U);
}

}  // namespace
}  // namespace moa::codegen
