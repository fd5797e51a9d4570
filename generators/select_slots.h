#pragma once

#include "generators/token_selection.h"

namespace moa {

// select_tokens in the order of positions and, for scores of 1, what route_slots.h gives for the result: in one kernel.
struct SelectSlots {
    explicit SelectSlots(TokenSelection s)
        : selection(std::move(s)) {
    }

    TokenSelection selection;
    Halide::Param<int> source_div{"source_div"};
    Halide::Var j{"j"}, n{"n"};
    Halide::RDom positions;
    Halide::Func chosen{"chosen"};    // (j, r, b): positions
    Halide::Func indices{"indices"};  // (j, r, b)
    Halide::Func scores{"scores"}, valid{"valid"}, slots{"slots"}, rows{"rows"};

    std::vector<Halide::Argument> arguments() const;
    std::vector<Halide::Func> outputs() const;
};

SelectSlots make_select_slots(Halide::Type storage, const Values &statics);

}  // namespace moa
