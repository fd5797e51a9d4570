#include "runtime/layers/routing.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace moa {

namespace {

constexpr int64_t kFusedIterations = 20;  // rows of coordinate_descent unroll the package's default

// Epsilon of each iteration and, last, the one that divides at the end.
std::vector<float> epsilons(const RouterOptions &options) {
    std::vector<float> values;
    double eps = std::max(options.eps_init.value_or(options.eps), options.eps);
    for (int64_t iteration = 0; iteration <= options.n_iters; iteration++) {
        values.push_back(static_cast<float>(eps));
        eps = std::max(eps * options.eps_decay, options.eps);
    }
    return values;
}

struct Descent {
    Handle similarities, mask, soft_scores;
    int64_t batch, length, first_router, routers;
    Blocks blocks;
    float log_k;

    View of_block(const View &positions, int64_t block) const {
        return positions.crop(0, block * blocks.width, blocks.width);
    }
    View scores(const Frame &f, int64_t block) const {
        return of_block(f[similarities], block).crop(1, first_router, routers);
    }
    View shown(const Frame &f, int64_t block) const {
        return of_block(mask_view(f, mask, length, batch), block);
    }
};

void descend_fused(PlanBuilder &builder, const Descent &d, const RouterOptions &options) {
    const Handle eps = builder.constant(share(epsilons(options)), {kFusedIterations + 1});
    builder.repeated_step("coordinate descent", d.blocks.count, [=](const Frame &f, int64_t block) {
        return ops::CoordinateDescent{d.scores(f, block), d.shown(f, block), d.log_k, f[eps], d.of_block(f[d.soft_scores], block)};
    });
}

// Any other number of iterations: one launch each, carrying one scalar a row.
void descend_by_steps(PlanBuilder &builder, const Descent &d, const RouterOptions &options) {
    const std::vector<float> eps = epsilons(options);
    Handle a = builder.temporary(DType::f32, {d.blocks.count, d.batch, d.routers});
    Handle next = builder.temporary(DType::f32, {d.blocks.count, d.batch, d.routers});
    for (int64_t iteration = 0; iteration < options.n_iters; iteration++) {
        const float e = eps[iteration];
        const bool first = iteration == 0;
        builder.repeated_step("coordinate descent step", d.blocks.count, [=](const Frame &f, int64_t block) {
            const View before = first ? broadcast(ops::zero_f32(2), {d.routers, d.batch}) : f[a].pick(2, block);
            return ops::CoordinateDescentStep{d.scores(f, block), d.shown(f, block), before, first, d.log_k, e, f[next].pick(2, block)};
        });
        std::swap(a, next);
    }
    builder.repeated_step("coordinate descent finish", d.blocks.count, [=, last = eps.back()](const Frame &f, int64_t block) {
        return ops::CoordinateDescentFinish{d.scores(f, block), d.shown(f, block), f[a].pick(2, block), last, d.of_block(f[d.soft_scores], block)};
    });
}

// Positions behind the last block are in none: their score is 0.
void clear_tail(PlanBuilder &builder, Handle soft_scores, int64_t begin, int64_t length) {
    if (begin == length) {
        return;
    }
    builder.host("soft scores of no block", {soft_scores}, [=](const Frame &f) {
        const View tail = f[soft_scores].crop(0, begin, length - begin);
        if (f.on_gpu()) {
            return f.fill(tail, 0.f);
        }
        for (int64_t b = 0; b < tail.extent(2); b++) {
            for (int64_t r = 0; r < tail.extent(1); r++) {
                std::fill_n(static_cast<float *>(tail.pick(2, b).pick(1, r).data), tail.extent(0), 0.f);
            }
        }
        return Status();
    });
}

// Positions from outside: in range, no position twice in a row of slots. `room` has a byte for each position.
Status check_imposed(const View &imposed, const View &room, int64_t length) {
    auto *taken = static_cast<uint8_t *>(room.data);
    for (int64_t b = 0; b < imposed.extent(2); b++) {
        for (int64_t r = 0; r < imposed.extent(1); r++) {
            const auto *index = static_cast<const int64_t *>(imposed.pick(2, b).pick(1, r).data);
            std::fill_n(taken, length, uint8_t{0});
            for (int64_t k = 0; k < imposed.extent(0); k++) {
                if (index[k] < 0 || index[k] >= length) {
                    return invalid("imposed index {} at [{}, {}, {}] is outside of the {} positions", index[k], b, r, k, length);
                }
                if (taken[index[k]]++ != 0) {
                    return invalid("imposed index {} occurs twice at [{}, {}]", index[k], b, r);
                }
            }
        }
    }
    return {};
}

template<class From, class To>
void copy_rows(const View &from, const View &to) {
    for (int64_t b = 0; b < from.extent(2); b++) {
        for (int64_t r = 0; r < from.extent(1); r++) {
            const auto *source = static_cast<const From *>(from.pick(2, b).pick(1, r).data);
            auto *target = static_cast<To *>(to.pick(2, b).pick(1, r).data);
            std::transform(source, source + from.extent(0), target, [](From value) { return static_cast<To>(value); });
        }
    }
}

}  // namespace

View mask_view(const Frame &f, Handle mask, int64_t length, int64_t batch) {
    return mask ? f[mask] : broadcast(ops::one_u8(2), {length, batch});
}

Status check_router_options(OptionCheck &check, const RouterOptions &o) {
    check.integer("n_iters", o.n_iters, 1, kMostIterations).at_least("fetch_k_ratio", o.fetch_k_ratio, 1);
    check.positive("eps", o.eps).at_least("eps_decay", o.eps_decay, 0);
    if (o.eps_init) {
        check.number("eps_init", *o.eps_init);
    }
    check.number("cosine_sim_scale", o.cosine_sim_scale);
    if (o.cosine_sim_routing) {
        check.nonzero("cosine_sim_scale", o.cosine_sim_scale);
    }
    check.that(!o.route_block_size || *o.route_block_size >= 1, [&] { return text("route_block_size is {}, must be at least 1", *o.route_block_size); });
    if (check.status().ok()) {
        const std::vector<float> values = epsilons(o);
        check.that(std::all_of(values.begin(), values.end(), [](float eps) { return std::isfinite(eps); }),
                   [&] { return text("eps_decay {} makes an epsilon that is infinite as a float", o.eps_decay); });
    }
    return check.status();
}

Result<Blocks> blocks_of(const RouterOptions &options, int64_t length, int64_t k) {
    Blocks blocks{1, length, k};
    if (options.route_block_size) {
        blocks.width = *options.route_block_size;
        blocks.count = length / blocks.width;
        if (blocks.count == 0) {
            return invalid("route_block_size {} is longer than the {} positions that are routed", blocks.width, length);
        }
        blocks.k = k / blocks.count + (k % blocks.count == 0 ? 0 : 1);
    }
    if (blocks.k > blocks.width) {
        return invalid("{} tokens cannot be routed from blocks of {} positions", blocks.k, blocks.width);
    }
    return blocks;
}

Routing route(PlanBuilder &builder, const RoutingRequest &request) {
    if (!builder.ok()) {
        return {};
    }
    const Result<Blocks> split = blocks_of(request.options, request.length, request.k);
    if (!split.ok()) {
        builder.fail(split.status());
        return {};
    }
    const Blocks blocks = *split;
    const int64_t B = request.batch, N = request.length, R = request.routers;
    Routing routing;
    routing.tokens = blocks.count * blocks.k;
    routing.indices = builder.temporary(DType::i32, {B, R, routing.tokens});
    const bool soft = !request.options.straight_through;
    if (soft || request.soft_scores) {
        routing.soft_scores = builder.temporary(DType::f32, {B, R, N});
        const double k = std::min(static_cast<double>(blocks.k) * request.options.fetch_k_ratio, static_cast<double>(blocks.width));
        const float log_k = static_cast<float>(std::log(std::max(static_cast<double>(static_cast<float>(k)), 1e-20)));
        const Descent d{request.similarities, request.mask, routing.soft_scores, B, N, request.first_router, R, blocks, log_k};
        request.options.n_iters == kFusedIterations ? descend_fused(builder, d, request.options) : descend_by_steps(builder, d, request.options);
        clear_tail(builder, routing.soft_scores, blocks.count * blocks.width, N);
    }
    const Handle similarities = request.similarities, mask = request.mask, indices = routing.indices;
    const int64_t first_router = request.first_router;
    const auto source_div = static_cast<int32_t>(request.source_div);
    routing.scores = builder.temporary(DType::f32, {B, R, routing.tokens});
    routing.valid = builder.temporary(DType::u8, {B, R, routing.tokens});
    routing.slots = builder.temporary(DType::i32, {B, R, N});
    routing.rows = builder.temporary(DType::i32, {B, R, routing.tokens});
    const Routing made = routing;
    if (builder.on_gpu() && !soft && !request.imposed && !request.rank_order && blocks.width == N) {
        const auto select_slots = [=](const Frame &f) {
            return ops::SelectSlots{f[similarities].crop(1, first_router, R), mask_view(f, mask, N, B), source_div, f[made.indices], f[made.scores], f[made.valid], f[made.slots], f[made.rows]};
        };
        if (builder.has_row(select_slots)) {
            builder.step(request.name, select_slots);
            return routing;
        }
    }
    if (request.imposed && builder.on_gpu()) {
        builder.step(request.name + ", imposed", [=, imposed = request.imposed](const Frame &f) { return ops::CopyIndices{f[imposed], f[indices], static_cast<int32_t>(N)}; });
    } else if (request.imposed) {
        const Handle imposed = request.imposed;
        builder.check([=](const Frame &f) { return check_imposed(f[imposed], f[made.slots], N); });
        builder.host(request.name + ", imposed", {imposed, indices}, [=](const Frame &f) {
            copy_rows<int64_t, int32_t>(f[imposed], f[indices]);
            return Status();
        });
    } else {
        builder.repeated_step(
            request.name, blocks.count,
            [=](const Frame &f, int64_t block) {
                const int64_t begin = block * blocks.width;
                return ops::SelectTokens{f[similarities].crop(0, begin, blocks.width).crop(1, first_router, R), mask_view(f, mask, N, B).crop(0, begin, blocks.width),
                                         static_cast<int32_t>(blocks.k), static_cast<int32_t>(begin), f[indices].crop(0, block * blocks.k, blocks.k)};
            },
            request.rank_order);
    }
    builder.step("route slots", [=](const Frame &f) {
        return ops::RouteSlots{f[indices], mask_view(f, mask, N, B), soft ? f[made.soft_scores] : broadcast(ops::zero_f32(3), {N, R, B}), soft, source_div,
                               f[made.scores], f[made.valid], f[made.slots], f[made.rows]};
    });
    return routing;
}

void write_indices(PlanBuilder &builder, Handle indices, Handle output) {
    if (builder.on_gpu()) {
        builder.optional_step("write indices", output, 1, [=](const Frame &f, int64_t) { return ops::CopyIndices{f[indices], f[output]}; });
        return;
    }
    builder.host("write indices", {indices, output}, [=](const Frame &f) {
        if (f.bound(output)) {
            copy_rows<int32_t, int64_t>(f[indices], f[output]);
        }
        return Status();
    });
}

void write_copy(PlanBuilder &builder, Handle source, Handle output, int64_t first) {
    builder.host("write output", {source, output}, [=](const Frame &f) {
        if (!f.bound(output)) {
            return Status();
        }
        const View from = f[source].crop(1, first, f[output].extent(1));
        if (f.on_gpu()) {
            return f.copy(from, f[output]);
        }
        copy_rows<float, float>(from, f[output]);
        return Status();
    });
}

}  // namespace moa
