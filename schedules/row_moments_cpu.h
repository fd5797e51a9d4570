#pragma once

#include "generators/row_moments.h"

namespace moa {

// Tiles of `rows` rows, computed at the loop `at` of `consumer`: the tile stays in cache from the first pass to the second.
void schedule_row_moments(RowMoments &moments, Halide::Func consumer, const Halide::Var &at, int vector, int rows);

}  // namespace moa
