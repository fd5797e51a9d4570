#include "generators/router_scores_tensor_core.h"

#include "generators/finite.h"
#include "generators/math.h"
#include "generators/nvptx.h"
#include "generators/tensor_core/fragment.h"
#include "generators/tensor_core/instructions.h"

namespace moa {

using namespace Halide;
using namespace moa::tensor_core;

namespace {

using Op = RouterScoresTensorCore;
constexpr int kSums = 4;  // of a lane in a fragment

Expr sum(const Expr &a, const Expr &b) {
    return a + b;
}

bool is_32_bit(const Op &op) {
    return op.x.type().bits() == 32;
}

// A number of f32 as the sum of two of tf32, to 22 bits: the instruction takes no notice of the low 13 bits of its operands.
std::vector<Expr> pieces_of(const Expr &value) {
    const Expr high = reinterpret<uint32_t>(value) & Internal::make_const(UInt(32), 0xffffe000u);
    return {high, reinterpret<uint32_t>(value - reinterpret<float>(high))};
}

// Whether every row of the tensor begins at a multiple of 16 bytes and is as long.
Expr rows_are_of_copies(const ImageParam &tensor) {
    const Parameter p = tensor.parameter();
    const int elements = kCopyBytes / p.type().bytes();
    return device_address(p) % Internal::make_const(UInt(64), kCopyBytes) == Internal::make_zero(UInt(64)) && tensor.dim(0).extent() % elements == 0 &&
           tensor.dim(1).stride() % elements == 0 && tensor.dim(2).stride() % elements == 0;
}

// The place of a lane's channels.
Expr group_of_channels(const Op &op) {
    return (op.batch * op.warps + op.warp) * Op::kMembers + member_of(op.lane);
}

Expr x_at(const Op &op, const Expr &channel, const Expr &row) {
    return op.x(channel, min(op.row_tile * kTileRows + row, op.x.dim(1).extent() - 1), op.b);
}

Expr token_at(const Op &op, const Expr &channel, const Expr &router) {
    return op.tokens(channel, min(op.router_tile * Op::kRouters + router, op.tokens.dim(1).extent() - 1), op.b);
}

// The first channel of a warp, or the last of all; 0 if it is not finite: an infinity less itself would be NaN.
Expr pivot_of(const Op &op, const Expr &row) {
    const Expr bits = bits_of(x_at(op, min(op.warp * (Op::kMembers * op.group()), op.x.dim(0).extent() - 1), row));
    const Type storage = op.x.type();
    const uint32_t exponent = storage == Float(32) ? 0x7f800000 : (storage == BFloat(16) ? 0x7f80 : 0x7c00);
    const Expr mask = cast(bits.type(), Expr(exponent));
    return reinterpret(storage, select((bits & mask) == mask, cast(bits.type(), 0), bits));
}

// How many channels a warp takes.
Expr count_of(const Op &op, const Expr &warp) {
    const int of_warp = Op::kMembers * op.group(), of_batch = of_warp * op.warps;
    const Expr channels = op.x.dim(0).extent();
    return cast<float>(channels / of_batch * of_warp + clamp(channels % of_batch - warp * of_warp, 0, of_warp));
}

Expr one_by_count(const Op &op, const Expr &warp) {
    const Expr count = count_of(op, warp);
    return select(count > 0.f, 1.f / max(count, 1.f), 0.f);
}

template<class At>
Expr word_by_copy(const Op &op, At at, const Expr &v, const Expr &otherwise) {
    const Expr group = group_of_channels(op), groups = op.x.dim(0).extent() / op.group();
    const Expr first = unsafe_promise_clamped(min(group, groups - 1), 0, groups - 1) * op.group();
    return select(group < groups, load_word(word(at(first)), v), otherwise);
}

// A branch, not a choice between values: that would need an address within bounds, in registers of its own for every element
// (70 instead of 64 a thread, which took 0.136 ms where this takes 0.120).
template<class At>
Expr by_element(const Op &op, At at, const Expr &i, const Expr &otherwise) {
    const Expr channel = group_of_channels(op) * op.group() + i, channels = op.x.dim(0).extent();
    const Expr there = at(unsafe_promise_clamped(channel, 0, channels - 1));
    return Internal::Call::make(otherwise.type(), Internal::Call::if_then_else, {channel < channels, there, otherwise}, Internal::Call::PureIntrinsic);
}

Expr x_word(const Op &op, const Expr &row, const Expr &pivot) {
    const Var &v = op.v;
    const Type bits = UInt(op.x.type().bits());
    const auto element = [&](const Expr &i) {
        return cast<uint32_t>(by_element(
            op, [&](const Expr &channel) { return bits_of(x_at(op, channel, row)); }, i, cast(bits, pivot)));
    };
    const Expr by_copy = word_by_copy(
        op, [&](const Expr &first) { return x_at(op, first, row); }, v, pivot);
    return select(op.in_copies, by_copy, is_32_bit(op) ? element(v) : element(2 * v) | element(2 * v + 1) << 16);
}

Expr token_value(const Op &op) {
    const Var &v = op.v;
    const auto at = [&](const Expr &channel) { return token_at(op, channel, group_of(op.lane)); };
    const auto copy_at = [&](const Expr &first) { return at(first + v / kWordsOfCopy * kWordsOfCopy); };
    const Expr by_copy = word_by_copy(op, copy_at, v % kWordsOfCopy, reinterpret<uint32_t>(Expr(0.f)));
    return select(op.in_copies, reinterpret<float>(by_copy), by_element(op, at, v, 0.f));
}

void define_words(Op &op) {
    const Var &v = op.v, &lane = op.lane, &warp = op.warp, &b = op.b;
    const Expr row = op.half * 8 + group_of(lane), first = cast<uint32_t>(bits_of(pivot_of(op, row)));
    op.pivot(op.half, lane, warp, op.row_tile, b) = is_32_bit(op) ? first : first | first << 16;
    op.x_words(v, op.half, op.batch, lane, warp, op.row_tile, b) = x_word(op, row, op.pivot(op.half, lane, warp, op.row_tile, b));
    op.token_values(v, op.batch, lane, warp, op.router_tile, b) = token_value(op);
    op.token_words(v, op.piece, op.batch, lane, warp, op.router_tile, b) = mux(op.piece, pieces_of(op.token_values(v, op.batch, lane, warp, op.router_tile, b)));
}

// An update takes two channels of a group.
void define_sums(Op &op) {
    const Var &lane = op.lane, &warp = op.warp, &b = op.b;
    const int terms = static_cast<int>(op.terms.size()), of_batch = op.warps * Op::kMembers * op.group();
    op.channels = RDom(0, op.group() / 2, 0, (op.x.dim(0).extent() + of_batch - 1) / of_batch, "channels");
    const RVar product = op.channels.x, batch = op.channels.y;
    op.sums(lane, warp, op.row_tile, op.router_tile, b) = Tuple(std::vector<Expr>(kSums * terms + 4, 0.f));
    const FuncRef old = op.sums(lane, warp, op.row_tile, op.router_tile, b);
    std::vector<Expr> own, sums, squares;
    for (int i = 0; i < kSums * terms + 4; i++) {
        own.push_back(old[i]);
    }
    std::vector<Expr> values[2], pieces[2][2];  // of a row of two, of a channel of two
    for (int half = 0; half < 2; half++) {
        for (int i = 0; i < 2; i++) {
            const Expr word = op.x_words(is_32_bit(op) ? product * 2 + i : Expr(product), half, batch, lane, warp, op.row_tile, b);
            values[half].push_back(unpack(op.x.type(), word, i));
            pieces[half][i] = is_32_bit(op) ? pieces_of(values[half][i]) : std::vector<Expr>{reinterpret<uint32_t>(values[half][i])};
        }
    }
    for (int i = 0; i < terms; i++) {
        const auto [of_x, of_token] = op.terms[i];
        const auto token = [&, piece = of_token](int channel) { return op.token_words(product * 2 + channel, piece, batch, lane, warp, op.router_tile, b); };
        const auto first = own.begin() + ptrdiff_t{kSums} * i;
        for (const Expr &e : multiply_add(Input::tf32, {pieces[0][0][of_x], pieces[1][0][of_x], pieces[0][1][of_x], pieces[1][1][of_x]}, {token(0), token(1)},
                                          {first, first + kSums})) {
            sums.push_back(e);
        }
    }
    for (int half = 0; half < 2; half++) {
        const Expr pivot = unpack(op.x.type(), op.pivot(half, lane, warp, op.row_tile, b), 0);
        Expr relative = own[kSums * terms + half], square = own[kSums * terms + 2 + half];
        for (const Expr &value : values[half]) {
            relative += value - pivot;
            square += (value - pivot) * (value - pivot);
        }
        sums.push_back(relative);
        squares.push_back(square);
    }
    sums.insert(sums.end(), squares.begin(), squares.end());
    op.sums(lane, warp, op.row_tile, op.router_tile, b) = with_sight_of(sums, own);
}

void define_parts(Op &op) {
    const Var &row = op.row, &warp = op.warp, &b = op.b;
    const int terms = static_cast<int>(op.terms.size());
    const FuncRef of_product = op.sums(row % 8 * 4 + op.router / 2, warp, op.row_tile, op.router_tile, b);
    std::vector<Expr> sums;
    for (int i = 0; i < kSums; i++) {
        Expr all = of_product[kSums * (terms - 1) + i];  // the small ones first
        for (int term = terms - 2; term >= 0; term--) {
            all += of_product[kSums * term + i];
        }
        sums.push_back(all);
    }
    op.products(op.router, row, warp, op.row_tile, op.router_tile, b) = mux(row / 8 * 2 + op.router % 2, sums);

    const FuncRef of_row = op.sums(row % 8 * 4 + op.member, warp, op.row_tile, op.router_tile, b);
    const auto of_lanes = [&](int i) { return across_lanes(mux(row / 8, {of_row[kSums * terms + i], of_row[kSums * terms + i + 1]}), sum); };
    const Expr relative = of_lanes(0), squares = of_lanes(2);
    op.segments(op.member, row, warp, op.row_tile, op.router_tile, b) = {relative + count_of(op, warp) * as_f32(pivot_of(op, row)),
                                                                         squares - relative * relative * one_by_count(op, warp)};
}

template<class Term>
Expr sum_of_warps(const Op &op, Term term) {
    Expr all = term(0);
    for (int warp = 1; warp < op.warps; warp++) {
        all += term(warp);
    }
    return all;
}

void define_moments(Op &op) {
    const auto segment = [&](int warp) { return op.segments(0, op.row, warp, op.row_tile, op.router_tile, op.b); };
    const Expr mean = sum_of_warps(op, [&](int warp) -> Expr { return segment(warp)[0]; }) / cast<float>(op.x.dim(0).extent());
    const Expr distances = sum_of_warps(op, [&](int warp) {
        const Expr difference = segment(warp)[0] - count_of(op, warp) * mean;  // of sums
        return segment(warp)[1] + difference * difference * one_by_count(op, warp);
    });
    op.moments(op.row, op.row_tile, op.router_tile, op.b) = {mean, distances};
}

void define_token_squares(Op &op, const Expr &with_cosines) {
    const Expr channels = op.x.dim(0).extent();
    op.squared = RDom(0, (channels + kLanes - 1) / kLanes, "squared");
    const Expr channel = op.squared * kLanes + op.lane;
    op.squared.where(with_cosines && channel < channels);
    const Expr token = token_at(op, min(channel, channels - 1), op.router);
    op.token_parts(op.lane, op.router, op.router_tile, op.b) = 0.f;
    op.token_parts(op.lane, op.router, op.router_tile, op.b) += token * token;
    op.squared_lanes = RDom(0, kLanes, "squared_lanes");
    op.squared_lanes.where(with_cosines);
    op.token_squares(op.router, op.router_tile, op.b) = 0.f;
    op.token_squares(op.router, op.router_tile, op.b) += op.token_parts(op.squared_lanes, op.router, op.router_tile, op.b);
}

void define_outputs(Op &op) {
    const Var &n = op.n, &r = op.r, &b = op.b;
    const Expr with_cosines = op.cosine_scale != 0.f, channels = cast<float>(op.x.dim(0).extent()), row = n % kTileRows, row_tile = n / kTileRows;
    define_token_squares(op, with_cosines);
    // Both terms are positive: nothing is lost that a sum of squares would keep.
    const auto squares = [&](const FuncRef &moments) { return of_overflow(moments[1] + channels * moments[0] * moments[0], !is_nan_bits(moments[0])); };
    const Expr dot = sum_of_warps(op, [&](int warp) -> Expr { return op.products(r % Op::kRouters, row, warp, row_tile, r / Op::kRouters, b); });
    const Expr factor = op.cosine_scale * inverse_norm(squares(op.moments(row, row_tile, r / Op::kRouters, b))) * inverse_norm(op.token_squares(r % Op::kRouters, r / Op::kRouters, b));
    op.scores(n, r, b) = select(with_cosines, dot * factor, dot);
    const FuncRef moments = op.moments(row, row_tile, r / RowMoments::kStatistics, b);  // of the first tile of routers
    op.stats(n, r, b) = select(r == 0, squares(moments), r == 1, moments[0], of_overflow(moments[1], is_finite_bits(moments[0])) / channels);
    op.constrain_shapes(op.scores, op.stats);
}

}  // namespace

int RouterScoresTensorCore::group() const {
    return kCopyBytes / x.type().bytes();
}

RouterScoresTensorCore make_router_scores_tensor_core(Type storage, const Values &values) {
    Op op;
    op.x = ImageParam(storage, 3, "x");
    op.in_copies = rows_are_of_copies(op.x) && rows_are_of_copies(op.tokens);
    op.warps = values("warps");
    for (int of_x = 0; of_x < (is_32_bit(op) ? Op::kPieces : 1); of_x++) {
        for (int of_token = 0; of_token < Op::kPieces; of_token++) {
            op.terms.emplace_back(of_x, of_token);
        }
    }
    define_words(op);
    define_sums(op);
    define_parts(op);
    define_moments(op);
    define_outputs(op);
    return op;
}

std::vector<Func> RouterScoresTensorCore::outputs() const {
    return {scores, stats};
}

MOA_OPERATION(RouterScoresTensorCore, "router_scores", make_router_scores_tensor_core);

}  // namespace moa
