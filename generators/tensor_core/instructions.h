#pragma once

#include "Halide.h"
#include "generators/codegen/cuda/markers.h"

#include <vector>

// Instructions of a warp as expressions. Halide and LLVM see pure functions of their arguments; the linker
// (generators/codegen/cuda/linker.h) puts the instructions in their place. The family is that of GPUs from compute capability
// 8.0 on, but for products of warpgroups.
namespace moa::tensor_core {

// What the matrix operands hold; sums are f32.
enum class Input { bf16,
                   f16,
                   tf32 };

Input input_of(Halide::Type storage);

// Operands come in 32-bit words: two neighbours of a 16-bit type, or one f32.
int elements_of_word(Input input);

// D[16 x 8] = A[16 x 8 words] B[8 words x 8] + C for the 32 lanes of a warp. With g = lane / 4 and t = lane % 4:
//   a[0..3] = A(g, word t), A(g + 8, word t), A(g, word t + 4), A(g + 8, word t + 4)
//   b[0..1] = B(word t, g), B(word t + 4, g)
//   c[0..3] = C(g, 2t), C(g, 2t + 1), C(g + 8, 2t), C(g + 8, 2t + 1)
constexpr int kWordsOfProduct = 8;
std::vector<Halide::Expr> multiply_add(Input input, const std::vector<Halide::Expr> &a, const std::vector<Halide::Expr> &b,
                                       const std::vector<Halide::Expr> &c);

// Word t of row g of matrix i, of four matrices of 8 rows of 16 bytes. Lane l names row l % 8 of matrix l / 8 by its first
// word, in shared memory at a multiple of 16 bytes (fragment.h: which rows and chunks make operands). i is constant once
// loops are unrolled.
Halide::Expr load_matrix(const Halide::Expr &first_word, const Halide::Expr &i);

// Of such matrices of 16-bit elements, elements 2t and 2t + 1 of column g.
Halide::Expr load_matrix_transposed(const Halide::Expr &first_word, const Halide::Expr &i);

// Products of a warpgroup, four warps of GPUs of capability 9.0: sums[64 x columns] += A[64 rows] B[columns], computed while the
// warps go on. The sums are in registers that only the instructions know; Halide passes on a token for them, which every step
// takes and gives. `set` tells several sums of a kernel apart. Warp w of the group and lane l hold, for each 8 columns j, components
// 0..3 of the fragment of rows 16w.. and columns 8j.. as sums 4j.. 4j + 3.
struct WarpgroupSums {
    int set = 0, columns = 0;
};
constexpr int kWarpsOfGroup = 4;
using codegen::cuda::marker::kRowsOfGroup;
Halide::Expr begin_sums(const WarpgroupSums &sums, const std::vector<Halide::Expr> &values);
Halide::Expr scale_sums(const WarpgroupSums &sums, const Halide::Expr &before, const Halide::Expr &factor, const Halide::Expr &factor_8);  // of rows g, g + 8
std::vector<Halide::Expr> fragment_at(const WarpgroupSums &sums, const Halide::Expr &token, const Halide::Expr &tile);                     // of 8 columns, constant once loops are unrolled

// A tile in shared memory, from a multiple of eight rows on, which its first word names: rows of row_bytes (64 or 128), chunks
// where place_of_chunk says; wider rows are in parts, part_bytes from each other.
struct WarpgroupTile {
    Halide::Expr first_word;
    int row_bytes = 0, parts = 1, part_bytes = 0;
};
// A: rows of A; B: rows of columns of B. fresh: the sums begin at 0.
Halide::Expr multiply_add_tiles(Input input, const WarpgroupSums &sums, const Halide::Expr &before, const WarpgroupTile &a, const WarpgroupTile &b, bool fresh = false);
// The products begin before the copies of their iteration of a loop that copies tiles ahead, and not after them.
Halide::Expr before_copies(const Halide::Expr &sums);
// A: 16 columns of the warp's 16 rows as the operand of multiply_add; B: 16 rows of `columns` elements.
Halide::Expr multiply_add_rows(Input input, const WarpgroupSums &sums, const Halide::Expr &before, const std::vector<Halide::Expr> &a, const WarpgroupTile &b);

// An element as its bits: what tiles in shared memory hold. Copies of 16 bytes are vectors of them.
using codegen::cuda::marker::kCopyBytes;
constexpr int kWordsOfCopy = kCopyBytes / 4;
Halide::Expr bits_of(const Halide::Expr &element);

// A storage type as f32, without Halide's emulation of bf16.
Halide::Expr widen(const Halide::Expr &element);

// The word that begins with an element of a buffer: two neighbours of a 16-bit type, from an even index on, or one of 32 bits.
Halide::Expr word(const Halide::Expr &element);

// Word i, of a constant i once loops are unrolled, of the aligned 16 bytes that begin with a word, which are read at once.
Halide::Expr load_word(const Halide::Expr &first_word, const Halide::Expr &i);

// Two f32, rounded to the input's type, as a word; one f32 rounded to tf32.
Halide::Expr pack(Input input, const Halide::Expr &low, const Halide::Expr &high);
Halide::Expr round_tf32(const Halide::Expr &word);

// Element i of a word of a storage type, as f32. i is constant once loops are unrolled.
Halide::Expr unpack(Halide::Type storage, const Halide::Expr &word, const Halide::Expr &i);

// f32 to a storage type, to nearest even, in one instruction.
Halide::Expr round_to(Halide::Type storage, const Halide::Expr &value);

// One instruction each: LLVM would not fuse, and compares and selects for a maximum.
Halide::Expr fused_multiply_add(const Halide::Expr &a, const Halide::Expr &b, const Halide::Expr &c);                   // a b + c, rounded once
Halide::Expr multiply_up(const Halide::Expr &a, const Halide::Expr &b);                                                 // a b, rounded towards infinity
Halide::Expr maximum(const Halide::Expr &a, const Halide::Expr &b);                                                     // of a number and NaN, the number
Halide::Expr exp2_approx(const Halide::Expr &x);                                                                        // 2^x to 2 ulp; subnormal results are 0
Halide::Expr shuffle_xor(const Halide::Expr &x, int lane_mask);                                                         // the value of lane ^ lane_mask
Halide::Expr ballot(const Halide::Expr &condition);                                                                     // bit l: the condition of lane l
Halide::Expr across_lanes(const Halide::Expr &x, Halide::Expr (*combine)(const Halide::Expr &, const Halide::Expr &));  // of the four lanes that share a row

// An f32 where a condition holds, else -infinity, which Halide and LLVM do not see: they reckon with finite numbers.
Halide::Expr shown(const Halide::Expr &x, const Halide::Expr &condition);

// Both of two f32 where bit i of a word is set, else a third. i is constant once loops are unrolled. Of bits 0.. in their order ptxas
// then makes seven predicates at once.
std::vector<Halide::Expr> select_by_bit(const Halide::Expr &word, const Halide::Expr &i, const std::vector<Halide::Expr> &two, const Halide::Expr &otherwise);

// LLVM may move a warp's instruction into the branch that needs its result, which not all lanes may take. A value that is
// pinned is computed where it stands.
Halide::Expr pinned(const Halide::Expr &x);

// The update `f(...) = value`, in sight of expressions that are never computed:
// - components of the tuple that the value reads inside of calls: Halide 21 does not look for them there and would store
//   component 0 before component 1 has read it;
// - tiles some steps ahead. Halide widens the sliding window of the producer: it makes a ring buffer, fills it ahead, and
//   starts the loop early. That is all of software pipelining; the loop's copies become asynchronous.
Halide::Tuple with_sight_of(const std::vector<Halide::Expr> &value, const std::vector<Halide::Expr> &own, const std::vector<Halide::Expr> &ahead = {});

}  // namespace moa::tensor_core
