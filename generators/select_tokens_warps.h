#pragma once

#include "generators/token_selection.h"

namespace moa {

// The operation of select_tokens.h by token_selection.h, in the order of positions.
struct SelectTokensWarps {
    explicit SelectTokensWarps(TokenSelection s)
        : selection(std::move(s)) {
    }

    TokenSelection selection;
    Halide::Param<int> offset{"offset"};
    Halide::Var j{"j"};
    Halide::RDom positions;
    Halide::Func indices{"indices"};

    std::vector<Halide::Argument> arguments() const;
    std::vector<Halide::Func> outputs() const;
};

SelectTokensWarps make_select_tokens_warps(Halide::Type storage, const Values &statics);

}  // namespace moa
