#include "generators/select_slots.h"

namespace moa {

using namespace Halide;

SelectSlots make_select_slots(Type, const Values &statics) {
    SelectSlots op(make_token_selection(statics));
    const TokenSelection &selection = op.selection;
    const Var &j = op.j, &n = op.n, &r = selection.warps.r, &b = selection.warps.b;
    constexpr int kWord = TokenSelection::kWord;
    const Expr positions = selection.scores.dim(0).extent(), source = b / op.source_div;

    op.positions = RDom(0, kWord, 0, selection.words, "positions");
    const RVar lane = op.positions.x, word = op.positions.y;
    const TokenSelection::Place of_word = selection.place(lane, word);
    op.positions.where(of_word.selected);
    op.chosen(j, r, b) = undef<int>();
    op.chosen(of_word.slot, r, b) = word * kWord + lane;

    const Expr position = unsafe_promise_clamped(op.chosen(j, r, b), 0, positions - 1);
    op.indices(j, r, b) = position;
    op.scores(j, r, b) = select(selection.mask(position, b) == 0, 0.f, 1.f);
    op.valid(j, r, b) = cast<uint8_t>(selection.mask(position, source) != 0);
    op.rows(j, r, b) = source * positions + position;
    const TokenSelection::Place place = selection.place(n % kWord, n / kWord);
    op.slots(n, r, b) = select(place.selected, place.slot, -1);

    for (int axis = 0; axis < 3; axis++) {
        const Expr extent = selection.scores.dim(axis).extent();
        for (const Func &f : {op.indices, op.scores, op.valid, op.rows}) {
            f.output_buffer().dim(axis).set_bounds(0, axis == 0 ? Expr(selection.k) : extent);
        }
        op.slots.output_buffer().dim(axis).set_bounds(0, extent);
    }
    return op;
}

std::vector<Argument> SelectSlots::arguments() const {
    return {selection.scores, selection.mask, selection.k, source_div};
}

std::vector<Func> SelectSlots::outputs() const {
    return {indices, scores, valid, slots, rows};
}

MOA_OPERATION(SelectSlots, "select_slots", make_select_slots);

}  // namespace moa
