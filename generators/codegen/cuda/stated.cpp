#include "generators/codegen/cuda/stated.h"

#include <algorithm>
#include <iterator>
#include <stdexcept>

namespace moa::codegen::cuda {
namespace {

constexpr int kUnasked = 48 * 1024;            // of shared memory, that every GPU gives a block
constexpr int kTunedFor[] = {80, 86, 89, 90};  // the default of MOA_CUDA_ARCHS

void check_shared(const Row &row, const CudaReport &report) {
    int taken = report.shared_bytes;
    if (taken == CudaReport::kUnknown) {
        return;
    }
    for (const auto &[sm, figures] : report.figures) {
        taken = std::max(taken, report.shared_bytes + figures.shared_bytes);
    }
    if (row.shared_bytes != 0 ? row.shared_bytes != taken : taken > kUnasked) {
        throw std::runtime_error(row.symbol() + ": \"shared_bytes\" must be " + std::to_string(taken) + ", which a block takes, not " + std::to_string(row.shared_bytes));
    }
}

std::string check_spills(const Row &row, const CudaReport &report) {
    std::string warning;
    for (const auto &[sm, figures] : report.figures) {
        const int bytes = figures.spill_bytes;
        if (bytes <= row.spill_bytes) {
            continue;
        }
        const std::string spilled = "a thread keeps " + std::to_string(bytes) + " bytes of its registers in memory on sm_" + std::to_string(sm);
        if (std::find(std::begin(kTunedFor), std::end(kTunedFor), sm) != std::end(kTunedFor)) {
            throw std::runtime_error(row.symbol() + ": " + spilled + "; the row allows \"spill_bytes\": " + std::to_string(row.spill_bytes));
        }
        warning += (warning.empty() ? "" : "; ") + spilled;
    }
    return warning;
}

}  // namespace

std::string check_stated(const Row &row, const CudaReport &report) {
    check_shared(row, report);
    return check_spills(row, report);
}

}  // namespace moa::codegen::cuda
