#include "generators/select_tokens.h"

namespace moa {

using namespace Halide;

// A row at a time: whole intermediates of all rows take four times as long to compile.
void schedule_select_tokens_reference(SelectTokens &op, const Target &, const Values &) {
    const auto row = [&](Func f) { f.compute_at(op.indices, op.r); };
    row(op.keys);
    for (auto &level : op.levels) {
        row(level.halves);
        for (auto &bit : level.bits) {
            row(bit.parts);
            row(bit.count);
            row(bit.found);
        }
    }
    for (const Func &f : {op.threshold, op.cutoff, op.taken, op.begin, op.selected}) {
        row(f);
    }
    for (auto &pass : op.passes) {
        row(pass.histogram);
        row(pass.starts);
        row(pass.sorted);
    }
}

MOA_SCHEDULE(SelectTokens, reference, schedule_select_tokens_reference);

}  // namespace moa
