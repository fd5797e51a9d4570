#pragma once

#include "workloads/layers.h"

#include <cstdint>
#include <memory>
#include <string>

namespace moa::workloads {

// A whole layer of random kind, sizes and options, with a reference in double precision: what finds the shapes that nobody tuned
// for. The same seed and bounds give the same layer, whatever the dtype.
class RandomLayer {
public:
    struct Bounds {
        double most_products = 4e6;  // multiplications of one run
        int64_t widest_head = 256;   // GPUs have no rows for wider ones
    };
    // Fails if the layer refuses what was drawn: none should.
    static Result<std::unique_ptr<RandomLayer>> make(uint64_t seed, DType dtype, const Bounds &bounds);
    ~RandomLayer();
    RandomLayer(const RandomLayer &) = delete;
    RandomLayer &operator=(const RandomLayer &) = delete;

    const std::string &text() const;  // kind, sizes and options
    Result<Plan> plan(const PlanOptions &options) const;
    LayerInstance &instance();
    // Whether what a run wrote is right within what rounding may do: a multiple of the largest error that drawn rounding errors make
    // of the reference.
    Status check(Precision precision) const;

private:
    struct Impl;
    explicit RandomLayer(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> impl_;
};

}  // namespace moa::workloads
