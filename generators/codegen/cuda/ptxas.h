#pragma once

#include <string>

// The assembler of the CUDA toolkit.
namespace moa::codegen::cuda {

// What `ptxas -v` says of the kernels of one PTX text: the most of each.
struct KernelFigures {
    int registers = 0;
    int stack_bytes = 0;
    int spill_bytes = 0;
    int shared_bytes = 0;  // static; what is asked for at launch is not in it
};

struct Assembled {
    std::string cubin;
    KernelFigures figures;
    std::string log;
};

// Throws std::runtime_error with the assembler's own text if it refuses.
Assembled assemble(const std::string &ptxas, const std::string &ptx, int sm);

KernelFigures figures_of(const std::string &log);

}  // namespace moa::codegen::cuda
