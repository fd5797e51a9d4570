#include "generators/copy_indices.h"

namespace moa {

using namespace Halide;

CopyIndices make_copy_indices(Type, const Values &statics) {
    CopyIndices op;
    const bool narrow = statics("narrow") != 0;
    op.in = ImageParam(Int(narrow ? 64 : 32), 3, "in");
    const Expr index = op.in(op.k, op.r, op.b);
    op.out(op.k, op.r, op.b) = narrow ? cast<int32_t>(clamp(index, cast<int64_t>(0), cast<int64_t>(op.limit - 1))) : cast<int64_t>(index);
    return op;
}

std::vector<Argument> CopyIndices::arguments() const {
    return {in, limit};
}

std::vector<Func> CopyIndices::outputs() const {
    return {out};
}

MOA_OPERATION(CopyIndices, "copy_indices", make_copy_indices);

}  // namespace moa
