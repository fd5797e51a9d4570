#pragma once

#include "generators/codegen/cuda/linker.h"
#include "generators/codegen/cuda/passes.h"
#include "generators/codegen/cuda/ptxas.h"
#include "generators/codegen/kernel.h"

#include <map>
#include <string>
#include <vector>

// From a kernel that is scheduled for a CUDA target to its files.
namespace moa::codegen::cuda {

struct CudaOptions {
    std::vector<int> cubins;  // architectures whose code is embedded beside the PTX: {80, 90}
    std::vector<int> checks;  // architectures that ptxas must take as well
    std::string ptxas;        // empty: none, and no cubins
    std::string ptx_file;     // the linked PTX is also written there, unless empty
};

// What is known of the device code once it is compiled.
struct CudaReport {
    LinkedPtx ptx;
    std::vector<CopyLoop> loops;
    std::map<int, KernelFigures> figures;  // by architecture
    int shared_bytes = 0;                  // the most that a launch asks for; kUnknown: it follows from sizes
    static constexpr int kUnknown = -1;
};

// Lowers, links and assembles. The bundle of bundle.h takes the place of the PTX in the module. Throws std::runtime_error; a
// kernel that ptxas refuses is an error with ptxas's text.
CudaReport compile_cuda(const Kernel &kernel, const std::string &function, const Halide::Target &target, const CudaOptions &options,
                        const std::map<Halide::OutputFileType, std::string> &files);

}  // namespace moa::codegen::cuda
