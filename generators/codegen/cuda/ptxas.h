#pragma once

#include <string>

// The assembler of the CUDA toolkit, and what compresses its results.
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

// Throws std::runtime_error with the assembler's own text if it refuses. architecture: "80", "90a".
Assembled assemble(const std::string &ptxas, const std::string &ptx, const std::string &architecture);

// Machine code as the program fatbinary compresses it, to less than a third; drivers load that as it is. Where there is no
// fatbinary beside the assembler: the machine code itself.
std::string compress(const std::string &ptxas, const std::string &cubin, const std::string &architecture);

KernelFigures figures_of(const std::string &log);

}  // namespace moa::codegen::cuda
