#include "generators/codegen/cuda/stated.h"
#include "tests/codegen/count.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <iterator>
#include <string>
#include <vector>

// The device code of rows that matter, as it must be for them to be fast: what a machine without a GPU can tell. The rows are
// those of variants/, and what is expected follows from their knobs. (What holds for every row, its shared memory and that
// registers are not spilled, is checked whenever one is compiled: generators/codegen/cuda/stated.h.)
namespace moa {
namespace {

using codegen::count;
using codegen::Row;
using codegen::cuda::CudaOptions;
using codegen::cuda::CudaReport;

std::string ptxas() {
    const std::filesystem::path path = MOA_TEST_PTXAS;
    return std::filesystem::exists(path) ? path.string() : "";
}

struct Compiled {
    CudaReport report;
    std::string object;
};

Compiled compile(const Row &row) {
    const Halide::Target target(row.compiled_for.halide + "-no_bounds_query-no_runtime-user_context");
    const std::string object = ::testing::TempDir() + "moa_" + row.symbol() + ".o";
    const CudaOptions options{.cubins = {80}, .checks = {90}, .ptxas = ptxas(), .ptx_file = ""};
    Compiled compiled;
    compiled.report = codegen::cuda::compile_cuda(operations().at(row.op)(row, target), "kernel", target, options, {{Halide::OutputFileType::object, object}});
    std::ifstream file(object, std::ios::binary);
    compiled.object.assign(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
    std::filesystem::remove(object);
    return compiled;
}

Compiled compile_made_up(const std::string &op, const std::string &dtype, std::map<std::string, int> values) {
    Row row;
    row.op = op;
    row.schedule = "cuda";
    row.target = "cuda_80";
    row.dtype = dtype;
    row.knobs = Values(std::move(values));
    row.compiled_for.halide = "x86-64-linux-cuda-cuda_capability_80";
    return compile(row);
}

// Rows of variants/<op>.json for tensor cores, the best first: those with these values among their static values and knobs.
std::vector<Row> shipped(const std::string &op, const std::string &target, const std::string &dtype, const std::map<std::string, int> &values = {}) {
    const std::string source = MOA_SOURCE;
    std::vector<Row> rows = codegen::read_rows({source + "/variants/" + op + ".json"}, codegen::read_targets(source + "/variants/targets.json"), source + "/schedules", {{target}, {}, {}});
    std::erase_if(rows, [&](const Row &row) {
        const Values all = row.values();
        return row.algorithm != op + "_tensor_core" || row.dtype != dtype || std::any_of(values.begin(), values.end(), [&](const auto &wanted) { return all.get(wanted.first, 0) != wanted.second; });
    });
    if (rows.empty()) {
        throw std::runtime_error("variants/" + op + ".json has no such row of " + dtype + " for " + target);
    }
    return rows;
}

// Of rows with the same knobs, the first.
std::vector<Row> one_of_each(std::vector<Row> rows) {
    std::vector<Row> kinds;
    for (Row &row : rows) {
        if (std::none_of(kinds.begin(), kinds.end(), [&](const Row &kind) { return kind.knobs.all() == row.knobs.all(); })) {
            kinds.push_back(std::move(row));
        }
    }
    return kinds;
}

// Fragments are in registers. Attention computes rows again, key by key, where a NaN of a hidden key has come into them or scores are
// huge: only then does a lane touch local memory, for its channels and statistics of the rows, after all products.
void expect_in_registers(const std::string &ptx, int again_bytes = 0) {
    if (again_bytes == 0) {
        EXPECT_EQ(ptx.find(".local"), std::string::npos);
        return;
    }
    EXPECT_NE(ptx.find("__local_depot0[" + std::to_string(again_bytes) + "]"), std::string::npos) << again_bytes << " bytes, nothing else";
    const size_t first = std::min(ptx.find("ld.local"), ptx.find("st.local"));
    ASSERT_NE(first, std::string::npos);
    EXPECT_EQ(ptx.find("mma", first), std::string::npos) << "before a product";
    EXPECT_EQ(count(ptx, "st.global"), count(ptx.substr(first), "st.global")) << "outputs come last";
    EXPECT_EQ(ptx.find("st.global", first), ptx.find("st.global", ptx.rfind("ld.local"))) << "what is computed again is in no other memory";
}

// Bytes of local memory: a lane has a quarter of the channels of 2 rows of a tile, and as statistics a maximum, a sum, whether there is
// any key and, beside a null key, its score. Rows of other operations have none.
int again_bytes(const Row &row) {
    const bool null = row.op == "attention";
    if (!null && row.op != "local_attention") {
        return 0;
    }
    return 4 * 2 * row.knobs("tiles") * (row.statics("head_dim") / 4 + (null ? 4 : 3));
}

// What every row with a loop over tiles has in common.
void expect_lean(const Row &row, const CudaReport &report) {
    SCOPED_TRACE(row.symbol());
    ASSERT_EQ(report.loops.size(), 1u);
    EXPECT_GT(report.loops[0].copies, 0);
    const int ahead = row.knobs.get("copies_last", 0);  // the first tile is copied before the loop, too
    EXPECT_EQ(report.ptx.copies, (1 + ahead) * report.loops[0].copies) << "every copy of the loop is asynchronous";
    EXPECT_EQ(report.loops[0].unfinished, row.knobs.get("unfinished", 0));
    EXPECT_EQ(report.loops[0].in_flight, row.knobs("stages") - 2 - row.knobs.get("unfinished", 0));
    expect_in_registers(report.ptx.text, again_bytes(row));
    EXPECT_EQ(report.ptx.text.find("moa_"), std::string::npos);
    EXPECT_EQ(report.ptx.capability, row.target == "cuda_90a" ? 90 : 0);
    EXPECT_EQ(report.figures.empty(), ptxas().empty());
    for (const auto &[sm, figures] : report.figures) {
        EXPECT_TRUE(row.target != "cuda_90a" || sm == 90) << "no other GPU has the instructions, sm_" << sm << " neither";
        EXPECT_LE(figures.registers, row.knobs.get("registers", 255)) << "sm_" << sm;
    }
    EXPECT_NO_THROW(codegen::cuda::check_stated(row, report));
}

constexpr int kWarpColumns = 64;  // of a tile that a warp computes; an mma computes 16 x 8 of it, 16 channels at once

TEST(TensorCoreRows, Project) {
    for (const Row &row : one_of_each(shipped("project", "cuda_80", "bf16", {{"plain", 1}}))) {
        const Compiled compiled = compile(row);
        const int row_tiles = row.knobs("warp_rows") / 16, column_tiles = kWarpColumns / 8, steps = 2 * row.knobs("blocks");
        EXPECT_EQ(compiled.report.ptx.matrix_products, row_tiles * column_tiles * steps);
        EXPECT_EQ(compiled.report.ptx.matrix_loads, row_tiles * steps + column_tiles * steps / 2);
        EXPECT_NE(compiled.object.find("MOACUDA"), std::string::npos) << "the bundle is in the object";
        expect_lean(row, compiled.report);
    }
}

TEST(TensorCoreRows, ProjectWithRotation) {
    const Row row = shipped("project", "cuda_80", "bf16", {{"rotary", 1}, {"head_dim", 64}})[0];
    const Compiled compiled = compile(row);
    EXPECT_GE(count(compiled.report.ptx.text, "ld.global.nc.v4"), row.knobs("warp_rows") / 16 * 2 * 2 * 4U) << "cosines and sines of eight neighbours are two loads each";
    expect_lean(row, compiled.report);
}

TEST(TensorCoreRows, ProjectByWarpgroups) {
    for (const Row &row : one_of_each(shipped("project", "cuda_90a", "bf16", {{"plain", 1}}))) {
        const Compiled compiled = compile(row);
        const std::string &ptx = compiled.report.ptx.text;
        const int steps = 2 * row.knobs("blocks"), columns = row.knobs("tile_columns");
        EXPECT_EQ(compiled.report.ptx.matrix_products, steps);
        EXPECT_EQ(count(ptx, "m64n" + std::to_string(columns) + "k16.f32.bf16.bf16"), static_cast<size_t>(steps));
        EXPECT_EQ(ptx.find("ldmatrix"), std::string::npos) << "operands are read from shared memory";
        expect_lean(row, compiled.report);
    }
}

TEST(TensorCoreRows, ProjectByWarpgroupsWithRotation) {
    for (const Row &row : shipped("project", "cuda_90a", "f16", {{"rotary", 1}})) {
        const Compiled compiled = compile(row);
        const std::string &ptx = compiled.report.ptx.text;
        const size_t stored = static_cast<size_t>(row.knobs("tile_columns")) / 2 * 2 / 16;  // half of the columns' values are a thread's, 2 bytes each
        EXPECT_NE(ptx.find("m64n" + std::to_string(row.knobs("tile_columns")) + "k16.f32.f16.f16"), std::string::npos);
        EXPECT_EQ(count(ptx, "st.global"), stored) << "16 bytes at once";
        EXPECT_EQ(count(ptx, "st.global.v4"), stored);
        EXPECT_LE(row.knobs("registers"), 128) << "two blocks on a multiprocessor";
        expect_lean(row, compiled.report);
    }
}

TEST(TensorCoreRows, ProjectInF32) {
    const Row row = shipped("project", "cuda_80", "tf32", {{"plain", 1}})[0];
    const Compiled compiled = compile(row);
    EXPECT_NE(compiled.report.ptx.text.find("m16n8k8.row.col.f32.tf32"), std::string::npos);
    EXPECT_NE(compiled.report.ptx.text.find("cvt.rna.tf32.f32"), std::string::npos) << "operands are rounded, not cut";
    expect_lean(row, compiled.report);
}

// Of attention, by mma: scores of 16 keys at once, and what they weigh.
int products_of(const Row &row) {
    const Values values = row.values();
    return 2 * values("tiles") * (values("keys") / 8) * (values("head_dim") / 16);
}

TEST(TensorCoreRows, Attention) {
    const Row row = shipped("attention", "cuda_80", "bf16", {{"head_dim", 64}})[0];
    const Compiled compiled = compile(row);
    EXPECT_EQ(compiled.report.ptx.matrix_products, products_of(row));
    EXPECT_NE(compiled.report.ptx.text.find("m8n8.x4.trans.shared.b16"), std::string::npos) << "values are transposed as they are loaded";
    expect_lean(row, compiled.report);
}

TEST(TensorCoreRows, AttentionByWarpgroups) {
    for (const Row &row : shipped("attention", "cuda_90a", "bf16")) {
        const Compiled compiled = compile(row);
        const std::string &ptx = compiled.report.ptx.text;
        const int keys = row.knobs("keys");
        // The scores of the first tile begin before the loop.
        EXPECT_EQ(compiled.report.ptx.matrix_products, row.statics("head_dim") / 16 + keys / 16) << row.symbol() << ": scores, and 16 keys' values at once";
        EXPECT_EQ(ptx.find("ldmatrix"), std::string::npos);
        EXPECT_EQ(count(ptx, "setp.ne.b32 %chosen"), static_cast<size_t>(keys) / 4) << "a bit of the mask is tested once for both of a lane's rows";
        EXPECT_EQ(ptx.find("ld.global.nc.b16"), std::string::npos) << "queries are read 16 bytes at once for the null key, too";
        expect_lean(row, compiled.report);
    }
}

TEST(TensorCoreRows, AttentionByWarpgroupsBeforeItsCopies) {
    const Row row = shipped("attention", "cuda_90a", "bf16", {{"head_dim", 128}, {"copies_last", 1}})[0];
    const Compiled compiled = compile(row);
    const std::string &ptx = compiled.report.ptx.text;
    EXPECT_EQ(count(ptx, "cp.async.commit_group"), 2U);
    const size_t scores = ptx.find("wgmma.mma_async.sync.aligned.m64n" + std::to_string(row.knobs("keys")) + "k16"), copies = ptx.find("cp.async.cg", scores);
    ASSERT_NE(copies, std::string::npos);
    EXPECT_NE(ptx.rfind("cp.async.cg", scores), std::string::npos) << "the first tile is copied before the loop";
    EXPECT_LT(ptx.rfind("cp.async.wait_group", copies), scores) << "no wait between";
    EXPECT_LT(copies, ptx.find("wgmma.wait_group", scores)) << "nor for the products";
    for (const auto &[sm, figures] : compiled.report.figures) {
        EXPECT_LE(figures.registers, 128) << "two blocks on a multiprocessor";
    }
}

TEST(TensorCoreRows, LocalAttention) {
    const Row row = shipped("local_attention", "cuda_80", "bf16", {{"window", 128}, {"head_dim", 64}})[0];
    const Compiled compiled = compile(row);
    EXPECT_EQ(compiled.report.ptx.matrix_products, products_of(row));
    EXPECT_EQ(compiled.report.ptx.matrix_loads, 2 * (row.knobs("keys") / 8) * (row.statics("head_dim") / 32)) << "keys, and values";
    expect_lean(row, compiled.report);
}

TEST(TensorCoreRows, LocalAttentionByWarpgroups) {
    const Row row = shipped("local_attention", "cuda_90a", "bf16", {{"window", 128}, {"head_dim", 64}})[0];
    const Compiled compiled = compile(row);
    EXPECT_EQ(compiled.report.ptx.matrix_products, row.statics("head_dim") / 16 + row.knobs("keys") / 16);
    EXPECT_EQ(compiled.report.ptx.text.find("ldmatrix"), std::string::npos);
    for (const auto &[sm, figures] : compiled.report.figures) {
        EXPECT_LE(figures.registers, 128) << "two blocks on a multiprocessor";
    }
    expect_lean(row, compiled.report);
}

TEST(TensorCoreRows, LocalAttentionInF32) {
    const Row row = shipped("local_attention", "cuda_80", "tf32", {{"window", 64}, {"head_dim", 64}})[0];
    const Compiled compiled = compile(row);
    EXPECT_NE(compiled.report.ptx.text.find("m16n8k8.row.col.f32.tf32"), std::string::npos);
    expect_lean(row, compiled.report);
}

TEST(TensorCoreRows, RouterScores) {
    const Row row = shipped("router_scores", "cuda_80", "bf16")[0];
    const Compiled compiled = compile(row);
    const std::string &ptx = compiled.report.ptx.text;
    EXPECT_EQ(count(ptx, ".entry"), 1U) << "both outputs come from one kernel";
    EXPECT_EQ(compiled.report.ptx.matrix_products, 4 * 2) << "two channels of a lane each, and both pieces of a token";
    EXPECT_EQ(count(ptx, "ld.global.nc.v4.b32"), 2U + 2U) << "two rows of x, and a token of twice the bytes";
    EXPECT_EQ(ptx.find(".local"), std::string::npos) << "fragments are in registers";
    for (const auto &[sm, figures] : compiled.report.figures) {
        const bool measured = sm == 80 || sm == 90;  // where 70 registers a thread took 0.136 ms for 0.120
        EXPECT_LE(figures.registers, measured ? 64 : 72) << "sm_" << sm;
    }
    EXPECT_NO_THROW(codegen::cuda::check_stated(row, compiled.report));
}

TEST(TensorCoreRows, WhatARowLacksIsNamed) {
    EXPECT_THROW(compile_made_up("attention", "bf16", {{"head_dim", 64}}), std::runtime_error);
    EXPECT_THROW(compile_made_up("router_scores", "bf16", {}), std::runtime_error);
    EXPECT_THROW(compile_made_up("local_attention", "bf16", {{"window", 64}, {"head_dim", 64}, {"keys", 64}, {"warps", 4}, {"tiles", 2}, {"stages", 3}}), std::runtime_error) << "a window of another size than a block's queries";
    EXPECT_THROW(compile_made_up("project", "f32", {{"plain", 1}, {"tile_rows", 128}, {"tile_columns", 128}, {"warp_rows", 16}, {"warpgroups", 1}, {"blocks", 2}, {"stages", 2}}), std::runtime_error) << "f32 would be cut";
    EXPECT_THROW(compile_made_up("project", "bf16", {{"plain", 1}, {"tile_rows", 128}, {"tile_columns", 128}, {"warp_rows", 64}, {"warpgroups", 1}, {"blocks", 2}, {"stages", 2}}), std::runtime_error);
    EXPECT_THROW(compile_made_up("project", "bf16", {{"rotary", 1}, {"tile_rows", 128}, {"tile_columns", 128}, {"warp_rows", 64}, {"blocks", 2}, {"stages", 3}}), std::runtime_error);
}

}  // namespace
}  // namespace moa
