#include "generators/select_tokens_warps.h"

namespace moa {

using namespace Halide;

SelectTokensWarps make_select_tokens_warps(Type, const Values &statics) {
    SelectTokensWarps op(make_token_selection(statics));
    const TokenSelection &selection = op.selection;
    const Var &r = selection.warps.r, &b = selection.warps.b;
    op.positions = RDom(0, TokenSelection::kWord, 0, selection.words, "positions");
    const RVar lane = op.positions.x, word = op.positions.y;
    const TokenSelection::Place place = selection.place(lane, word);
    op.positions.where(place.selected);
    op.indices(op.j, r, b) = undef<int>();
    op.indices(place.slot, r, b) = word * TokenSelection::kWord + lane + op.offset;
    auto out = op.indices.output_buffer();
    out.dim(0).set_bounds(0, selection.k);
    out.dim(1).set_bounds(0, selection.scores.dim(1).extent());
    out.dim(2).set_bounds(0, selection.scores.dim(2).extent());
    return op;
}

std::vector<Argument> SelectTokensWarps::arguments() const {
    return {selection.scores, selection.mask, selection.k, offset};
}

std::vector<Func> SelectTokensWarps::outputs() const {
    return {indices};
}

MOA_OPERATION(SelectTokensWarps, "select_tokens", make_select_tokens_warps);

}  // namespace moa
