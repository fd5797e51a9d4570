#include "generators/tensor_core/instructions.h"

#include "generators/codegen/cuda/markers.h"

#include <stdexcept>
#include <string>

namespace moa::tensor_core {

using namespace Halide;
using Halide::Internal::Call;
namespace marker = codegen::cuda::marker;

namespace {

Expr pure(Type type, const std::string &name, const std::vector<Expr> &arguments) {
    return Call::make(type, name, arguments, Call::PureExtern);
}

std::vector<Expr> results(Type type, const char *name, const Expr &token, int count) {
    std::vector<Expr> all;
    all.reserve(count);
    for (int i = 0; i < count; i++) {
        all.push_back(pure(type, name, {token, i}));
    }
    return all;
}

const char *product_of(Input input) {
    switch (input) {
    case Input::bf16:
        return "moa_mma_m16n8k16_bf16";
    case Input::f16:
        return "moa_mma_m16n8k16_f16";
    case Input::tf32:
        return "moa_mma_m16n8k8_tf32";
    }
    throw std::runtime_error("unknown input of matrix products");
}

}  // namespace

Input input_of(Type storage) {
    if (storage == BFloat(16)) {
        return Input::bf16;
    }
    if (storage == Float(16)) {
        return Input::f16;
    }
    if (storage == Float(32)) {
        return Input::tf32;
    }
    throw std::runtime_error("tensor cores take bf16, f16 and f32");
}

int elements_of_word(Input input) {
    return input == Input::tf32 ? 1 : 2;
}

std::vector<Expr> multiply_add(Input input, const std::vector<Expr> &a, const std::vector<Expr> &b, const std::vector<Expr> &c) {
    std::vector<Expr> arguments(a);
    arguments.insert(arguments.end(), b.begin(), b.end());
    arguments.insert(arguments.end(), c.begin(), c.end());
    return results(Float(32), marker::kResultFloat, pure(Int(32), product_of(input), arguments), 4);
}

Expr load_matrix(const Expr &first_word, const Expr &i) {
    return pure(UInt(32), marker::kResultWord, {pure(Int(32), marker::kLoadMatrices, {first_word}), i});
}

Expr load_matrix_transposed(const Expr &first_word, const Expr &i) {
    return pure(UInt(32), marker::kResultWord, {pure(Int(32), marker::kLoadTransposed, {first_word}), i});
}

namespace {

// Not pure: Halide would take a call of constants out of the kernel, and LLVM might change the order.
Expr warpgroup_call(const char *name, const std::vector<Expr> &arguments) {
    return Call::make(Int(32), name, arguments, Call::Extern);
}

void refuse_f32(Input input) {
    if (input == Input::tf32) {
        throw std::runtime_error("products of a warpgroup would cut f32 and not round it");
    }
}

}  // namespace

Expr begin_sums(const WarpgroupSums &sums, const std::vector<Expr> &values) {
    std::vector<Expr> arguments = {sums.set, sums.columns};
    arguments.insert(arguments.end(), values.begin(), values.end());
    return warpgroup_call(marker::kBeginSums, arguments);
}

Expr scale_sums(const WarpgroupSums &sums, const Expr &before, const Expr &factor, const Expr &factor_8) {
    return warpgroup_call(marker::kScaleSums, {before, sums.set, sums.columns, factor, factor_8});
}

Expr multiply_add_tiles(Input input, const WarpgroupSums &sums, const Expr &before, const WarpgroupTile &a, const WarpgroupTile &b, bool fresh) {
    refuse_f32(input);
    return warpgroup_call(input == Input::bf16 ? marker::kMultiplyBf16 : marker::kMultiplyF16,
                          {before, a.first_word, b.first_word, sums.set, sums.columns, a.row_bytes, a.parts, a.part_bytes, b.part_bytes, fresh ? 1 : 0});
}

Expr before_copies(const Expr &sums) {
    return warpgroup_call(marker::kBeforeCopies, {sums});
}

Expr multiply_add_rows(Input input, const WarpgroupSums &sums, const Expr &before, const std::vector<Expr> &a, const WarpgroupTile &b) {
    refuse_f32(input);
    return warpgroup_call(input == Input::bf16 ? marker::kMixBf16 : marker::kMixF16,
                          {before, b.first_word, a[0], a[1], a[2], a[3], sums.set, sums.columns, b.row_bytes, b.parts, b.part_bytes});
}

std::vector<Expr> fragment_at(const WarpgroupSums &sums, const Expr &token, const Expr &tile) {
    constexpr int kComponents = 4;
    std::vector<Expr> fragment;
    fragment.reserve(kComponents);
    for (int i = 0; i < kComponents; i++) {
        fragment.push_back(pure(Float(32), marker::kSum, {token, sums.set, tile * kComponents + i}));
    }
    return fragment;
}

Expr bits_of(const Expr &element) {
    return reinterpret(UInt(element.type().bits()), element);
}

Expr widen(const Expr &element) {
    return element.type() == BFloat(16) ? reinterpret<float>(cast<uint32_t>(bits_of(element)) << 16) : cast<float>(element);
}

Expr word(const Expr &element) {
    return pure(UInt(32), marker::kWord, {bits_of(element)});
}

Expr load_word(const Expr &first_word, const Expr &i) {
    return pure(UInt(32), marker::kResultWord, {pure(Int(32), marker::kLoadWords, {first_word}), i});
}

Expr pack(Input input, const Expr &low, const Expr &high) {
    return pure(UInt(32), input == Input::bf16 ? "moa_pack_bf16" : "moa_pack_f16", {low, high});
}

Expr round_tf32(const Expr &word) {
    return pure(UInt(32), "moa_to_tf32", {word});
}

Expr unpack(Type storage, const Expr &word, const Expr &i) {
    if (storage.bits() == 32) {
        return reinterpret<float>(word);
    }
    if (storage.is_bfloat()) {
        return reinterpret<float>(select(i == 0, word << 16, word & Internal::make_const(UInt(32), 0xffff0000u)));
    }
    return widen(reinterpret(storage, cast<uint16_t>(select(i == 0, word, word >> 16))));
}

Expr round_to(Type storage, const Expr &value) {
    if (storage == Float(32)) {
        return value;
    }
    return reinterpret(storage, cast<uint16_t>(pure(UInt(32), storage == BFloat(16) ? "moa_to_bf16" : "moa_to_f16", {value})));
}

Expr fused_multiply_add(const Expr &a, const Expr &b, const Expr &c) {
    return pure(Float(32), "moa_fma", {a, b, c});
}

Expr maximum(const Expr &a, const Expr &b) {
    return pure(Float(32), "moa_max", {a, b});
}

Expr multiply_up(const Expr &a, const Expr &b) {
    return pure(Float(32), "moa_multiply_up", {a, b});
}

Expr shown(const Expr &x, const Expr &condition) {
    return pure(Float(32), "moa_show", {x, cast<uint32_t>(condition)});
}

Expr exp2_approx(const Expr &x) {
    return pure(Float(32), "moa_exp2", {x});
}

Expr shuffle_xor(const Expr &x, int lane_mask) {
    return pure(Float(32), "moa_shuffle_xor", {x, lane_mask});
}

Expr ballot(const Expr &condition) {
    return pure(UInt(32), "moa_ballot", {cast<uint32_t>(condition)});
}

std::vector<Expr> select_by_bit(const Expr &word, const Expr &i, const std::vector<Expr> &two, const Expr &otherwise) {
    const Expr bit = Expr(uint32_t{1}) << cast<uint32_t>(i);
    return results(Float(32), marker::kResultFloat, pure(Int(32), "moa_select_by_bit", {two[0], two[1], word, bit, otherwise}), 2);
}

Expr across_lanes(const Expr &x, Expr (*combine)(const Expr &, const Expr &)) {
    const Expr pairs = combine(x, shuffle_xor(x, 1));
    return combine(pairs, shuffle_xor(pairs, 2));
}

Expr pinned(const Expr &x) {
    return reinterpret(x.type(), Call::make(Float(32), "moa_pinned", {reinterpret<float>(x)}, Call::Extern));
}

// A select that Halide cannot decide: both sides count for bounds, sliding windows and dependences of tuples. The condition
// must not be pure: of a pure one, bounds inference asks for each side only where it is chosen.
Tuple with_sight_of(const std::vector<Expr> &value, const std::vector<Expr> &own, const std::vector<Expr> &ahead) {
    Expr unused = 0.f;
    for (const Expr &e : own) {
        unused += cast<float>(e);
    }
    if (!ahead.empty()) {
        unused += Call::make(Float(32), marker::kAhead, ahead, Call::Extern);
    }
    const Expr always = Call::make(Bool(), marker::kAlways, {}, Call::Extern);
    std::vector<Expr> seen;
    seen.reserve(value.size());
    for (const Expr &e : value) {
        seen.push_back(select(always, e, cast(e.type(), unused)));
    }
    return Tuple(seen);
}

}  // namespace moa::tensor_core
