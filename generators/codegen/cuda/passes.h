#pragma once

#include "Halide.h"

#include <string>
#include <vector>

// Lowering passes that make tensor-core kernels of what Halide can say. All leave kernels without markers as they are. They
// throw std::runtime_error for what they cannot do, since what they would leave behind is slow or wrong.
namespace moa::codegen::cuda {

// Puts a branch around the production of a Func that is marked to be computed only under a condition (only_if() in
// generators/finite.h), loops and all. Halide does so for conditions that read no other Func.
Halide::Internal::Stmt skip_productions(const Halide::Internal::Stmt &s, bool few_registers);

// Decides the selects of with_sight_of() (generators/tensor_core/instructions.h) and takes away what was only in sight. The
// buffers whose tiles were named ahead are appended to `pipelined`.
Halide::Internal::Stmt decide_sight(const Halide::Internal::Stmt &s, std::vector<std::string> &pipelined);

// Reads 32-bit words where kWord marks the first of two neighbouring 16-bit elements; the index must be even.
Halide::Internal::Stmt read_words(const Halide::Internal::Stmt &s);

// Stores dense vectors of 16 and 32 bits an element to outputs by 16 bytes, where they are aligned. Halide's code generator does so for
// four elements of 32 bits, and cuts all others into 8 bytes.
Halide::Internal::Stmt store_16_bytes(const Halide::Internal::Stmt &s);

// A Func at block level in MemoryType::Register holds the values of all threads of the block, thread fastest: element =
// thread + threads * tile. Where each thread touches no column but its own, this is `tiles` registers a thread. (At thread
// level Halide could not express it: the consumers of a fragment are other loops over threads, and storage must be outside
// all of them.)
Halide::Internal::Stmt stripe_registers(const Halide::Internal::Stmt &s);

// What became of a loop that copies tiles ahead.
struct CopyLoop {
    std::string name;
    int copies = 0;      // 16-byte copies in its body
    int in_flight = 0;   // groups, one an iteration, that may be on their way while an earlier tile is waited for
    int products = 0;    // of warpgroups, in an iteration
    int unfinished = 0;  // of earlier iterations that may still be computed when copies begin
};

// Halide's ring buffer makes a loop `copy, some tiles ahead; barrier; read; barrier`. Copies that return at once (the linker
// makes them) need another order: `wait for own copies; barrier; copy; commit; read`, whose one barrier both shows the tile
// to all threads and keeps the slot that is overwritten from being read. How many groups may be on their way follows from the
// addresses, which are computed for all threads and some iterations. Every copy must come before every read of the loop, else
// its group would be committed an iteration late, and the wait would not cover it. Products of warpgroups read on after they
// were begun: before the barrier, those that read what is overwritten next are waited for, and after the loop all.
Halide::Internal::Stmt pipeline_copies(const Halide::Internal::Stmt &s, const std::vector<std::string> &pipelined, std::vector<CopyLoop> &loops);

// Products of warpgroups are computed while the warps go on, and copies wait for a place in their queue. In loops that pipeline_copies
// has ordered, the products that are marked to come first begin before the iteration's copies; the first iterations, which only
// copy, become a loop of their own.
Halide::Internal::Stmt begin_products_first(const Halide::Internal::Stmt &s, const std::vector<CopyLoop> &loops);

// Throws if a vector of shared memory may lie at an address that is no multiple of its size. Halide lays the arrays of a block
// end to end, but believes of every index what it knew of it when the array was alone; where an array ends elsewhere, the
// vectors of all later ones are misaligned. Schedules use align_storage where an extent is known to a launch only.
void check_alignment(const Halide::Internal::Stmt &s);

// All of them, in this order. few_registers: the row says how many a thread may take.
Halide::Internal::Stmt lower_tensor_core(const Halide::Internal::Stmt &s, std::vector<CopyLoop> &loops, bool few_registers = false);

}  // namespace moa::codegen::cuda
