#include "runtime/ops.h"

#include "runtime/cuda/memory.h"
#include "runtime/ops_absent.h"
#include "runtime/ops_check.h"

#include <algorithm>
#include <cstdint>

namespace moa::ops {

namespace {

View single(const void *memory, DType dtype, int rank) {
    View view(const_cast<void *>(memory), dtype, {});
    view.rank = rank;
    std::fill_n(view.axes.begin(), rank, Axis{1, 0});
    return view;
}

}  // namespace

constinit const Absent kAbsent{};

View zero_f32(int rank) {
    return single(kAbsent.zeros.data(), DType::f32, rank);
}
View one_f32(int rank) {
    return single(&kAbsent.one, DType::f32, rank);
}
View one_u8(int rank) {
    return single(&kAbsent.one_byte, DType::u8, rank);
}
View zero_i32(int rank) {
    return single(kAbsent.zeros.data(), DType::i32, rank);
}
View zero_of(DType dtype, int rank) {
    return single(kAbsent.zeros.data(), dtype, rank);
}

Status run(Run &run, const Row &row, const RouterScores &given) {
    RouterScores a = given;
    const int64_t c = a.x.extent(0), n = a.x.extent(1), b = a.x.extent(2), r = a.tokens.extent(1);
    const Check check = Check(row, problem(given))
                            .rank("x", a.x, 3)
                            .that(c > 0, "x has no channels")
                            .input("tokens", a.tokens, {c, r, b})
                            .extents("scores", a.scores, {n, r, b})
                            .extents("stats", a.stats, {n, 3, b});
    if (!check.status().ok() || nothing(a.stats)) {
        return check.status();
    }
    return run.launch(row, {a.x, a.tokens, a.cosine_scale, a.scores, a.stats});
}

Status run(Run &run, const Row &row, const RowStatistics &a) {
    const Check check = Check(row, problem(a))
                            .rank("x", a.x, 3)
                            .that(a.x.extent(0) > 0, "x has no channels")
                            .extents("stats", a.stats, {a.x.extent(1), 3, a.x.extent(2)});
    if (!check.status().ok() || nothing(a.stats)) {
        return check.status();
    }
    return run.launch(row, {a.x, a.stats});
}

Status run(Run &run, const Row &row, const CoordinateDescent &given) {
    CoordinateDescent a = given;
    const int64_t n = a.scores.extent(0), r = a.scores.extent(1), b = a.scores.extent(2);
    const Check check = Check(row, problem(given))
                            .rank("scores", a.scores, 3)
                            .input("mask", a.mask, {n, b})
                            .rank("eps", a.eps, 1)
                            .extents("y", a.y, {n, r, b});
    if (!check.status().ok() || nothing(a.y)) {
        return check.status();
    }
    return run.launch(row, {a.scores, a.mask, a.log_k, a.eps, a.y});
}

Status run(Run &run, const Row &row, const CoordinateDescentStep &given) {
    CoordinateDescentStep a = given;
    const int64_t n = a.scores.extent(0), r = a.scores.extent(1), b = a.scores.extent(2);
    const Check check = Check(row, problem(given))
                            .rank("scores", a.scores, 3)
                            .input("mask", a.mask, {n, b})
                            .input("a_in", a.a_in, {r, b})
                            .extents("a_out", a.a_out, {r, b});
    if (!check.status().ok() || nothing(a.a_out) || n == 0) {
        return check.status();
    }
    return run.launch(row, {a.scores, a.mask, a.a_in, i(a.first), a.log_k, a.eps, a.a_out});
}

Status run(Run &run, const Row &row, const CoordinateDescentFinish &given) {
    CoordinateDescentFinish a = given;
    const int64_t n = a.scores.extent(0), r = a.scores.extent(1), b = a.scores.extent(2);
    const Check check = Check(row, problem(given))
                            .rank("scores", a.scores, 3)
                            .input("mask", a.mask, {n, b})
                            .input("a", a.a, {r, b})
                            .extents("y", a.y, {n, r, b});
    if (!check.status().ok() || nothing(a.y)) {
        return check.status();
    }
    return run.launch(row, {a.scores, a.mask, a.a, a.eps, a.y});
}

Status run(Run &run, const Row &row, const SelectTokens &given) {
    SelectTokens a = given;
    const int64_t n = a.scores.extent(0), r = a.scores.extent(1), b = a.scores.extent(2);
    const Check check = Check(row, {"select_tokens", DType::f32, {}})
                            .rank("scores", a.scores, 3)
                            .input("mask", a.mask, {n, b})
                            .extents("indices", a.indices, {a.k, r, b})
                            .that(a.k <= n, "k is {}, of {} positions", a.k, n)
                            .that(n + a.offset <= INT32_MAX, "offset {} takes positions beyond 2^31", a.offset);
    if (!check.status().ok() || nothing(a.indices)) {
        return check.status();
    }
    return run.launch(row, {a.scores, a.mask, a.k, a.offset, a.indices});
}

namespace {

// No slot for any position: what is left of route_slots when nothing is selected.
Status fill_slots(const Run &run, const View &slots) {
    if (run.rehearses()) {
        return {};
    }
    if (run.context() != nullptr) {
        View placed = slots;
        placed.data = run.place_of(slots.data);
        return cuda::fill_words(*run.context(), run.stream(), placed, UINT32_MAX);
    }
    for (int64_t b = 0; b < slots.extent(2); b++) {
        for (int64_t r = 0; r < slots.extent(1); r++) {
            std::fill_n(static_cast<int32_t *>(slots.pick(2, b).pick(1, r).data), slots.extent(0), -1);
        }
    }
    return {};
}

// What both route_slots and select_slots give: k slots of n positions, of r routers in b entries.
template<class Arguments>
void check_routes(Check &check, const Arguments &a, int64_t k, int64_t n, int64_t r, int64_t b) {
    const int64_t sources = (b + std::max(a.source_div, 1) - 1) / std::max(a.source_div, 1);
    check.extents("valid", a.valid, {k, r, b})
        .extents("slots", a.slots, {n, r, b})
        .extents("rows", a.rows, {k, r, b})
        .that(a.source_div > 0, "source_div is {}", a.source_div)
        .that(k <= n, "{} slots of {} positions", k, n)
        .that(n * sources <= INT32_MAX, "{} positions in {} sources are more than 2^31", n, sources);
}

}  // namespace

Status run(Run &run, const Row &row, const RouteSlots &given) {
    RouteSlots a = given;
    const int64_t k = a.indices.extent(0), r = a.indices.extent(1), b = a.indices.extent(2), n = a.slots.extent(0);
    Check check = Check(row, problem(given)).rank("indices", a.indices, 3).input("mask", a.mask, {n, b}).input("y", a.y, {n, r, b}).extents("scores", a.scores, {k, r, b});
    check_routes(check, a, k, n, r, b);
    if (!check.status().ok() || nothing(a.slots)) {
        return check.status();
    }
    if (k == 0) {
        return fill_slots(run, a.slots);
    }
    return run.launch(row, {a.indices, a.mask, a.y, i(a.soft), a.source_div, a.scores, a.valid, a.slots, a.rows});
}

Status run(Run &run, const Row &row, const SelectSlots &given) {
    SelectSlots a = given;
    const int64_t k = a.indices.extent(0), n = a.scores.extent(0), r = a.scores.extent(1), b = a.scores.extent(2);
    Check check =
        Check(row, problem(given)).rank("scores", a.scores, 3).input("mask", a.mask, {n, b}).extents("indices", a.indices, {k, r, b}).extents("routing_scores", a.routing_scores, {k, r, b});
    check_routes(check, a, k, n, r, b);
    if (!check.status().ok() || nothing(a.slots)) {
        return check.status();
    }
    if (k == 0) {
        return fill_slots(run, a.slots);
    }
    return run.launch(row, {a.scores, a.mask, static_cast<int32_t>(k), a.source_div, a.indices, a.routing_scores, a.valid, a.slots, a.rows});
}

Status run(Run &run, const Row &row, const CopyIndices &a) {
    const int64_t k = a.in.extent(0), r = a.in.extent(1), b = a.in.extent(2);
    const Check check = Check(row, problem(a)).rank("in", a.in, 3).extents("out", a.out, {k, r, b}).that(a.limit > 0, "there are {} positions", a.limit);
    if (!check.status().ok() || nothing(a.out)) {
        return check.status();
    }
    return run.launch(row, {a.in, a.limit, a.out});
}

Status run(Run &run, const Row &row, const Combine &given) {
    Combine a = given;
    const int64_t c = a.out.extent(0), n = a.out.extent(1), b = a.out.extent(2), m = a.a.extent(1), e = a.a.extent(2);
    const Check check = Check(row, problem(given))
                            .rank("out", a.out, 3)
                            .extents("a", a.a, {c, m, e, b})
                            .input("slots", a.slots, {n, e, b})
                            .input("valid", a.valid, {m, e, b})
                            .input("local", a.local, {c, n, b})
                            .input("null_token", a.null_token, {c})
                            .input("mask", a.mask, {n, b})
                            .that(a.routed || m == n, "without routing, a must have a row a position, {} of {}", m, n);
    if (!check.status().ok() || nothing(a.out)) {
        return check.status();
    }
    return run.launch(row, {a.a, a.slots, a.valid, a.local, a.null_token, a.mask, i(a.routed), i(a.has_local), static_cast<int32_t>(a.divide), a.divisor, a.out});
}

Status run(Run &run, const Row &row, const RotaryTable &a) {
    const int64_t d = a.angles.extent(0), n = a.angles.extent(1);
    const Check check = Check(row, problem(a)).rank("angles", a.angles, 2).extents("cosines", a.cosines, {d, n}).extents("sines", a.sines, {d, n});
    if (!check.status().ok() || nothing(a.angles)) {
        return check.status();
    }
    return run.launch(row, {a.angles, a.cosines, a.sines});
}

}  // namespace moa::ops
