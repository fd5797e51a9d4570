#include "generators/codegen/cuda/bundle.h"
#include "generators/codegen/cuda/linker.h"
#include "generators/codegen/cuda/ptxas.h"

#include <cstring>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <stdexcept>
#include <string>

namespace moa::codegen::cuda {
namespace {

using std::string;

// A call as LLVM writes it.
string call(int number, const string &name, const std::vector<string> &arguments, const string &result) {
    string text = std::string("\t{ // callseq ") + std::to_string(number) + ", 0\n";
    for (size_t i = 0; i < arguments.size(); i++) {
        const string parameter = std::string("param") + std::to_string(i);
        text += "\t.param .b32 \t" + parameter + ";\n";
        text += "\tst.param.b32 \t[" + parameter + "], " + arguments[i] + ";\n";
    }
    text += "\t.param .b32 \tretval0;\n\tcall.uni (retval0), " + name + ", (param0);\n";
    if (!result.empty()) {
        text += "\tld.param.b32 \t" + result + ", [retval0];\n";
    }
    return text + "\t} // callseq " + std::to_string(number) + "\n";
}

string kernel(const string &body) {
    return ".visible .entry kernel(\n)\n{\n\t.reg .b32 \t%r<99>;\n" + body + "\tret;\n}\n";
}

bool contains(const string &text, const string &part) {
    return text.find(part) != string::npos;
}

TEST(CudaLinker, LeavesOtherKernelsAlone) {
    const string ptx = kernel("\tadd.s32 \t%r1, %r2, %r3;\n");
    EXPECT_EQ(link_ptx(ptx).text, ptx);
}

TEST(CudaLinker, PutsAnInstructionInThePlaceOfACall) {
    const string ptx = ".extern .func  (.param .b32 func_retval0) moa_exp2\n(\n\t.param .b32 moa_exp2_param_0\n)\n;\n" + kernel(call(0, "moa_exp2", {"%r1"}, "%r2"));
    const LinkedPtx linked = link_ptx(ptx);
    EXPECT_TRUE(contains(linked.text, "\tex2.approx.ftz.f32 %r2, %r1;\n"));
    EXPECT_FALSE(contains(linked.text, "moa_"));
    EXPECT_FALSE(contains(linked.text, "callseq"));
}

TEST(CudaLinker, KernelsSayHowManyRegistersTheyMayTake) {
    const string ptx = ".visible .entry k(\n)\n{\n\tret;\n}\n";
    EXPECT_EQ(link_ptx(ptx).text, ptx);
    EXPECT_EQ(link_ptx(ptx, 128).text, ".visible .entry k(\n)\n.maxnreg 128\n{\n\tret;\n}\n");
}

TEST(CudaLinker, TwoValuesAreChosenByOneBit) {
    const string ptx = kernel(call(0, "moa_select_by_bit", {"%r1", "%r2", "%r3", "4", "0fF1800000"}, "%r4") + call(1, "moa_result_f32", {"%r4", "0"}, "%r5") +
                              call(2, "moa_result_f32", {"%r4", "1"}, "%r6"));
    const LinkedPtx found = link_ptx(ptx);
    const string &linked = found.text;
    EXPECT_EQ(found.matrix_products, 0);
    EXPECT_TRUE(contains(linked, "and.b32 %bit, %r3, 4;"));
    EXPECT_TRUE(contains(linked, "selp.f32 %pair0_0, %r1, 0fF1800000, %chosen;"));
    EXPECT_TRUE(contains(linked, "selp.f32 %pair0_1, %r2, 0fF1800000, %chosen;"));
    EXPECT_TRUE(contains(linked, "mov.b32 %r6, %pair0_1;"));
}

TEST(CudaLinker, ResultsOfAProductAreRegistersOfItsOwn) {
    const string ptx = kernel(call(0, "moa_mma_m16n8k16_bf16", {"%r1", "%r2", "%r3", "%r4", "%r5", "%r6", "%r7", "%r8", "%r9", "%r10"}, "%r11") +
                              call(1, "moa_result_f32", {"%r11", "3"}, "%r12"));
    const LinkedPtx linked = link_ptx(ptx);
    EXPECT_EQ(linked.matrix_products, 1);
    EXPECT_TRUE(contains(linked.text, "{\n\t.reg .b32 %mma0_0, %mma0_1, %mma0_2, %mma0_3;\n"));
    EXPECT_TRUE(contains(linked.text, "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%mma0_0, %mma0_1, %mma0_2, %mma0_3}, {%r1, %r2, %r3, %r4}, {%r5, %r6}, {%r7, %r8, %r9, %r10};"));
    EXPECT_TRUE(contains(linked.text, "mov.b32 %r12, %mma0_3;"));
}

TEST(CudaLinker, MatricesAreLoadedWhereTheirWordWas) {
    const string ptx = kernel("\tld.shared.b32 \t%r1, [%rd2+64];\n\tbar.sync \t0;\n" + call(0, "moa_ldmatrix_x4_trans", {"%r1"}, "%r3") + call(1, "moa_result_u32", {"%r3", "2"}, "%r4"));
    const LinkedPtx linked = link_ptx(ptx);
    EXPECT_EQ(linked.matrix_loads, 1);
    const size_t load = linked.text.find("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%matrix0_0, %matrix0_1, %matrix0_2, %matrix0_3}, [%rd2+64];");
    ASSERT_NE(load, string::npos);
    EXPECT_LT(load, linked.text.find("bar.sync"));
    EXPECT_TRUE(contains(linked.text, "mov.b32 %r4, %matrix0_2;"));
}

// A product of warpgroups: its tiles' first words, then the call.
const string kFirstWords = "\tld.shared.b32 \t%r1, [%rd2+1024];\n\tld.shared.b32 \t%r2, [%r9];\n";
string product_call(const string &row_bytes = "128") {
    return call(1, "moa_wgmma_bf16", {"%r3", "%r1", "%r2", "0", "128", row_bytes, "1", "0", "0", "0"}, "%r4");
}
string begin_call() {
    std::vector<string> arguments = {"0", "128"};
    arguments.resize(2 + 64, "0f00000000");
    return call(0, "moa_wgmma_begin", arguments, "%r3");
}
const string kBegin = begin_call(), kWaitForAll = call(2, "moa_wait_for_products", {"0"}, "");
const string kSum = call(3, "moa_wgmma_sum", {"%r4", "0", "63"}, "%r5");

TEST(CudaLinker, ProductsOfWarpgroupsTakeTilesByTheirFirstWords) {
    const string header = ".version 7.0\n.target sm_80\n.address_size 64\n";
    const LinkedPtx linked = link_ptx(header + kernel(kBegin + kFirstWords + product_call() + kWaitForAll + kSum));
    EXPECT_EQ(linked.matrix_products, 4) << "32 bytes of a row each";
    EXPECT_EQ(linked.capability, 90);
    EXPECT_TRUE(contains(linked.text, ".version 8.0\n.target sm_90a\n"));
    EXPECT_TRUE(contains(linked.text, "mov.b32 %sum0_63, 0f00000000;"));
    EXPECT_FALSE(contains(linked.text, "ld.shared")) << "the words are names";
    EXPECT_TRUE(contains(linked.text, "add.u32 %tile1_a_at, %tile1_a_at, 1024;"));
    EXPECT_TRUE(contains(linked.text, "or.b64 %tile1_b, %tile1_b, 0x4000004000010000;")) << "rows of 128 bytes, eight of them in 1024";
    const size_t fence = linked.text.find("wgmma.fence"), product = linked.text.find("wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {%sum0_0, "), commit = linked.text.find("wgmma.commit_group");
    ASSERT_NE(product, string::npos);
    EXPECT_LT(fence, product);
    EXPECT_LT(product, commit);
    EXPECT_LT(linked.text.find("wgmma.wait_group.sync.aligned 0;"), linked.text.find("mov.b32 %r5, %sum0_63;"));
}

TEST(CudaLinker, RowsOf64BytesExchangeOtherChunks) {
    const LinkedPtx linked = link_ptx(kernel(kBegin + kFirstWords + product_call("64") + kWaitForAll + kSum));
    EXPECT_EQ(linked.matrix_products, 2);
    EXPECT_TRUE(contains(linked.text, "0x8000002000010000;"));
    EXPECT_THROW(link_ptx(kernel(kBegin + kFirstWords + product_call("256") + kWaitForAll + kSum)), std::runtime_error);
}

TEST(CudaLinker, SumsAreNotReadBeforeTheyAreThere) {
    const string read_at_once = link_ptx(kernel(kBegin + kFirstWords + product_call() + kSum)).text;
    EXPECT_LT(read_at_once.find("wgmma.wait_group.sync.aligned 0;"), read_at_once.find("mov.b32 %r5, %sum0_63;")) << "the linker waits";
    EXPECT_THROW(link_ptx(kernel(kBegin + kFirstWords + product_call() + "$L__BB0_1:\n" + kSum)), std::runtime_error) << "in another block it cannot know for what";
    EXPECT_THROW(link_ptx(kernel(kBegin + "\tmov.b32 \t%r1, %r7;\n\tmov.b32 \t%r2, %r8;\n" + product_call())), std::runtime_error) << "no tile is named";
}

TEST(CudaLinker, SumsAreScaledOnceTheirProductsAreThere) {
    const string mix = call(4, "moa_wgmma_mix_f16", {"%r4", "%r2", "%r11", "%r12", "%r13", "%r14", "1", "64", "128", "1", "0"}, "%r15");
    const string scale = call(5, "moa_wgmma_scale", {"%r15", "1", "64", "%r16", "%r17"}, "%r18");
    const LinkedPtx linked = link_ptx(kernel(kBegin + kFirstWords + mix + product_call() + scale));
    EXPECT_TRUE(contains(linked.text, "m64n64k16.f32.f16.f16 {%sum1_0, "));
    EXPECT_TRUE(contains(linked.text, "{%r11, %r12, %r13, %r14}, %tile")) << "the first operand is in registers";
    EXPECT_TRUE(contains(linked.text, "wgmma.wait_group.sync.aligned 1;\n\tmul.f32 %sum1_0, %sum1_0, %r16;")) << "the younger product goes on";
    EXPECT_TRUE(contains(linked.text, "mul.f32 %sum1_2, %sum1_2, %r17;"));
}

TEST(CudaLinker, RefusesWhatItDoesNotKnow) {
    EXPECT_THROW(link_ptx(kernel(call(0, "moa_unheard_of", {"%r1"}, "%r2"))), std::runtime_error);
    EXPECT_THROW(link_ptx(kernel(call(0, "moa_result_f32", {"%r1", "0"}, "%r2"))), std::runtime_error) << "no instruction has this result";
    EXPECT_THROW(link_ptx(kernel("\tmov.b32 \t%r1, %r5;\n" + call(0, "moa_ldmatrix_x4", {"%r1"}, "%r3"))), std::runtime_error) << "no word of memory";
}

const char *const kCopy = "\tld.global.nc.v2.b32 \t{%r1, %r2}, [%rd1+-16];\n\tld.global.nc.v2.b32 \t{%r3, %r4}, [%rd1+-8];\n\tst.shared.v4.b32 \t[%rd2+512], {%r1, %r2, %r3, %r4};\n";

TEST(CudaLinker, CopiesBeforeACommitAreAsynchronous) {
    const LinkedPtx linked = link_ptx(kernel(kCopy + call(0, "moa_commit_copies", {}, "")));
    EXPECT_EQ(linked.copies, 1);
    EXPECT_TRUE(contains(linked.text, "cp.async.cg.shared.global [%rd2+512], [%rd1+-16], 16;\n\tcp.async.commit_group;"));
    EXPECT_FALSE(contains(linked.text, "st.shared"));
}

TEST(CudaLinker, CopiesThatNoWaitCoversStay) {
    const string commit = call(0, "moa_commit_copies", {}, "");
    EXPECT_EQ(link_ptx(kernel(kCopy + string("\tbar.sync \t0;\n") + commit)).copies, 0);
    EXPECT_EQ(link_ptx(kernel(kCopy + string("$L__BB0_1:\n") + commit)).copies, 0);
    EXPECT_EQ(link_ptx(kernel(commit + kCopy)).copies, 0);
}

TEST(CudaLinker, CopiesOfWhatMayChangeStay) {
    const string changing = "\tld.global.v4.b32 \t{%r1, %r2, %r3, %r4}, [%rd1];\n\tst.shared.v4.b32 \t[%rd2], {%r1, %r2, %r3, %r4};\n";
    const string apart = "\tld.global.nc.v2.b32 \t{%r1, %r2}, [%rd1];\n\tld.global.nc.v2.b32 \t{%r3, %r4}, [%rd1+16];\n\tst.shared.v4.b32 \t[%rd2], {%r1, %r2, %r3, %r4};\n";
    const string commit = call(0, "moa_commit_copies", {}, "");
    EXPECT_EQ(link_ptx(kernel(changing + commit)).copies, 0);
    EXPECT_EQ(link_ptx(kernel(apart + commit)).copies, 0);
}

template<class Integer>
Integer read(const string &bytes, size_t offset) {
    Integer value;
    std::memcpy(&value, bytes.data() + offset, sizeof(value));
    return value;
}

TEST(CudaBundle, ListsImagesAndAlignsThem) {
    const string bundle = write_bundle({{0, "ptx text"}, {90, "code"}});
    EXPECT_EQ(bundle.substr(0, 8), string("MOACUDA\0", 8));
    EXPECT_EQ(read<uint32_t>(bundle, 8), 1u);
    ASSERT_EQ(read<uint32_t>(bundle, 12), 2u);
    EXPECT_EQ(read<uint32_t>(bundle, 16), 0u);
    const auto ptx = read<uint64_t>(bundle, 24), cubin = read<uint64_t>(bundle, 48);
    EXPECT_EQ(ptx % 16, 0u);
    EXPECT_EQ(cubin % 16, 0u);
    EXPECT_EQ(read<uint64_t>(bundle, 32), 9u) << "with the 0 at the end";
    EXPECT_EQ(bundle.substr(ptx, 9), string("ptx text\0", 9));
    EXPECT_EQ(read<uint32_t>(bundle, 40), 90u);
    EXPECT_EQ(bundle.substr(cubin, read<uint64_t>(bundle, 56)), "code");
}

TEST(Ptxas, FiguresAreTheMostOfAllKernels) {
    const KernelFigures figures = figures_of("ptxas info    : Function properties for a\n    32 bytes stack frame, 48 bytes spill stores, 64 bytes spill loads\n"
                                             "ptxas info    : Used 255 registers, used 1 barriers\nptxas info    : Used 32 registers, 2048 bytes smem\n");
    EXPECT_EQ(figures.registers, 255);
    EXPECT_EQ(figures.stack_bytes, 32);
    EXPECT_EQ(figures.spill_bytes, 64);
    EXPECT_EQ(figures.shared_bytes, 2048);
}

TEST(Ptxas, CodeIsCompressedByTheProgramBesideIt) {
    namespace fs = std::filesystem;
    const fs::path folder = fs::path(testing::TempDir()) / "moa_toolkit", ptxas = folder / "ptxas", fatbinary = folder / "fatbinary";
    fs::remove_all(folder);
    fs::create_directory(folder);
    std::ofstream(ptxas) << "";
    EXPECT_EQ(compress(ptxas, "code", "90"), "code") << "there is none";
    const auto stand_in = [&](const char *script) {
        std::ofstream(fatbinary) << "#!/bin/sh\n"
                                 << script;
        fs::permissions(fatbinary, fs::perms::owner_all);
    };
    stand_in("for argument; do case $argument in --create=*) echo \"$@\" > \"${argument#--create=}\";; esac; done");
    EXPECT_NE(compress(ptxas, "code", "90").find("--image3=kind=elf,sm=90,file="), string::npos);
    stand_in("echo no; exit 1");
    EXPECT_THROW(compress(ptxas, "code", "90"), std::runtime_error);
    fs::remove_all(folder);
}

TEST(Ptxas, AMissingProgramIsAnError) {
    EXPECT_THROW(assemble("/nowhere/ptxas", "", "80"), std::runtime_error);
}

}  // namespace
}  // namespace moa::codegen::cuda
