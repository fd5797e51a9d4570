#pragma once

#include "moa/plan.h"
#include "moa/status.h"
#include "tools/cases/recorded_case.h"

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace moa::tools {

// How a layer's selection is checked: per batch entry and router the k best of each block of positions, valid ones first,
// then by similarity, then by index.
struct Selection {
    std::string similarities;            // the plan's output [b, r, n]
    std::string mask;                    // the plan's input [b, n]; empty: all are valid
    int64_t blocks = 1, width = 0;       // of positions
    bool by_rank = false;                // the layer's order; else by index
    std::optional<HostTensor> recorded;  // similarities [b, r, n]
};

// What is compared, or written: a plan's output under its recorded name.
struct CaseOutput {
    std::string name;                    // "out.out", "route.router.s"
    std::string argument;                // the plan's
    std::vector<int64_t> shape;          // the package's, of as many elements
    std::optional<HostTensor> want;      // none: nothing was recorded
    std::vector<size_t> order;           // where each recorded element lies in the argument; empty: in the same place
    std::optional<Selection> selection;  // of indices
};

// How often numbers are rounded to the storage dtype between inputs and outputs, for the tolerance (compare.h).
struct Roundings {
    double values = 0;           // on the way of the values
    double scores = 0;           // on the way of the attention scores
    double score_deviation = 0;  // how far scores scatter: what their rounding errors scale with
};

// A recorded case as a layer of this library.
struct CaseLayer {
    // impose: recorded routes are inputs.
    std::function<Result<Plan>(const PlanOptions &options, bool impose)> plan;
    std::map<std::string, HostTensor> inputs;  // by the plan's names; f32, i64 or boolean
    std::vector<CaseOutput> outputs;
    bool routes_missing = false;  // it routes, but its routes were not recorded
    Roundings roundings;
};

// Fails with Code::unsupported for what this library does not do, with other codes for cases that are inconsistent.
Result<CaseLayer> layer_of(const RecordedCase &recorded);

// Of one module each.
Result<CaseLayer> attention_case(const RecordedCase &recorded);
Result<CaseLayer> linear_case(const RecordedCase &recorded);
Result<CaseLayer> local_attention_case(const RecordedCase &recorded);
Result<CaseLayer> local_mha_case(const RecordedCase &recorded);
Result<CaseLayer> mixture_case(const RecordedCase &recorded);
Result<CaseLayer> router_case(const RecordedCase &recorded);

}  // namespace moa::tools
