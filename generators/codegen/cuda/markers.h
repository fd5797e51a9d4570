#pragma once

#include <cstddef>
#include <string_view>

// Names of the calls that stand for what Halide has no node for. Algorithms make most of them (generators/tensor_core/), passes
// take some away (passes.h), and the linker puts an instruction in the place of those that reach the PTX (linker.h).
namespace moa::codegen::cuda::marker {

// Only until the passes have run.
inline constexpr char kAlways[] = "moa_always";               // (): true, but only the pass knows
inline constexpr char kAhead[] = "moa_ahead";                 // (loads...): tiles that are to be copied ahead; never computed
inline constexpr char kBeforeCopies[] = "moa_before_copies";  // (token of products of a warpgroup): they begin before the iteration's copies
inline constexpr char kOnlyIf[] = "moa_only_if";              // (condition, value): the value; the Func that begins with it is computed only if the condition holds
inline constexpr char kWord[] = "moa_word";                   // (element): the 32-bit word that begins with it

// In the PTX.
inline constexpr char kResultFloat[] = "moa_result_f32";  // (token, i): a result of an instruction that has several
inline constexpr char kResultWord[] = "moa_result_u32";
inline constexpr char kCommitCopies[] = "moa_commit_copies";     // (): ends a group of asynchronous copies
inline constexpr char kWaitForCopies[] = "moa_wait_for_copies";  // (n): until at most n groups are on their way
inline constexpr int kCopyBytes = 16;                            // of an asynchronous copy
// Of a warpgroup (tensor_core/instructions.h). Products: (sums, first word of a, of b, set, columns, bytes of a row, parts, bytes
// of a part of a, of b, whether sums begin at 0); with a in registers: (sums, first word of b, 4 words of a, set, columns, bytes
// of a row, parts, bytes of a part).
inline constexpr char kBeginSums[] = "moa_wgmma_begin";  // (set, columns, a value a sum)
inline constexpr char kMultiplyBf16[] = "moa_wgmma_bf16";
inline constexpr char kMultiplyF16[] = "moa_wgmma_f16";
inline constexpr char kMixBf16[] = "moa_wgmma_mix_bf16";
inline constexpr char kMixF16[] = "moa_wgmma_mix_f16";
inline constexpr int kRowsOfGroup = 64, kRowsOfMix = 16;  // of a; of b where a is in registers
inline bool is_mix(std::string_view name) {
    return name == kMixBf16 || name == kMixF16;
}
inline bool is_product(std::string_view name) {
    return is_mix(name) || name == kMultiplyBf16 || name == kMultiplyF16;
}
// Which argument of a product says the set; what follows is the same for both kinds.
inline size_t set_of_product(std::string_view name) {
    return is_mix(name) ? 6 : 3;
}
inline constexpr char kScaleSums[] = "moa_wgmma_scale";              // (sums, set, columns, factor of row g, of row g + 8)
inline constexpr char kSum[] = "moa_wgmma_sum";                      // (sums, set, i)
inline constexpr char kWaitForProducts[] = "moa_wait_for_products";  // (n): until at most n groups of products are being computed
inline constexpr char kShowToProducts[] = "moa_show_to_products";    // (): what the thread wrote to shared memory
// Of their argument, a word of memory, the address is what counts.
inline constexpr char kLoadWords[] = "moa_load_words";
inline constexpr char kLoadMatrices[] = "moa_ldmatrix_x4";
inline constexpr char kLoadTransposed[] = "moa_ldmatrix_x4_trans";

}  // namespace moa::codegen::cuda::marker
