#pragma once

#include <string>

// Puts instructions in the place of marker calls in the PTX that LLVM writes.
namespace moa::codegen::cuda {

struct LinkedPtx {
    std::string text;
    int capability = 0;       // 90: the code is for GPUs of capability 9.0 alone (sm_90a); 0: for every one from 8.0 on
    int matrix_products = 0;  // mma and wgmma instructions
    int copies = 0;           // 16-byte copies from global to shared memory that are asynchronous now
    int matrix_loads = 0;     // ldmatrix instructions
    int word_loads = 0;       // 16-byte loads of fragments
    int shuffles = 0;         // and votes
};

// Throws std::runtime_error where a call is of no known instruction or its results are not where they should be. Kernels
// without markers come back as they are.
//
// A call becomes one instruction where it stands. LLVM takes the calls for functions of their arguments alone, which is true
// within a warp as long as all of its threads come by: control flow around them must be the same for the warp. Instructions
// that load take the place of the load of their argument instead, which LLVM moves past no barrier.
//
// A copy is asynchronous if a group is committed after it in the same basic block, so that a wait can cover it; and if it
// reads through ld.global.nc, because the copy reads when it is issued and not where the load stood.
//
// registers: most of a thread, if not 0.
LinkedPtx link_ptx(const std::string &ptx, int registers = 0);

}  // namespace moa::codegen::cuda
