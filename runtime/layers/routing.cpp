#include "runtime/layers/routing.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace moa {

namespace {

constexpr int64_t kFusedIterations = 20;   // rows of coordinate_descent unroll the package's default
constexpr int64_t kMostIterations = 4096;  // each is a step of the plan

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
    int64_t batch, begin, width, first_router, routers;
    float log_k;
};

void descend_fused(PlanBuilder &builder, const Descent &d, const RouterOptions &options) {
    const Handle eps = builder.constant(share(epsilons(options)), {kFusedIterations + 1});
    builder.step("coordinate descent", [=](const Frame &f) {
        return ops::CoordinateDescent{f[d.similarities].crop(0, d.begin, d.width).crop(1, d.first_router, d.routers), mask_view(f, d.mask, d.begin + d.width, d.batch).crop(0, d.begin, d.width),
                                      d.log_k, f[eps], f[d.soft_scores].crop(0, d.begin, d.width)};
    });
}

// Any other number of iterations: one launch each, carrying one scalar a row.
void descend_by_steps(PlanBuilder &builder, const Descent &d, const RouterOptions &options) {
    const std::vector<float> eps = epsilons(options);
    Handle a = builder.temporary(DType::f32, {d.batch, d.routers});
    Handle next = builder.temporary(DType::f32, {d.batch, d.routers});
    const auto scores = [d](const Frame &f) { return f[d.similarities].crop(0, d.begin, d.width).crop(1, d.first_router, d.routers); };
    const auto mask = [d](const Frame &f) { return mask_view(f, d.mask, d.begin + d.width, d.batch).crop(0, d.begin, d.width); };
    for (int64_t iteration = 0; iteration < options.n_iters; iteration++) {
        const float e = eps[iteration];
        const bool first = iteration == 0;
        builder.step("coordinate descent step", [=](const Frame &f) {
            return ops::CoordinateDescentStep{scores(f), mask(f), first ? broadcast(ops::zero_f32(2), {d.routers, d.batch}) : f[a], first, d.log_k, e, f[next]};
        });
        std::swap(a, next);
    }
    const float last = eps.back();
    builder.step("coordinate descent finish", [=](const Frame &f) {
        return ops::CoordinateDescentFinish{scores(f), mask(f), f[a], last, f[d.soft_scores].crop(0, d.begin, d.width)};
    });
}

// Positions from outside: in range, no position twice in a row of slots.
Status narrow_indices(const View &wide, const View &narrow, int64_t length) {
    for (int64_t b = 0; b < wide.extent(2); b++) {
        for (int64_t r = 0; r < wide.extent(1); r++) {
            const auto *from = static_cast<const int64_t *>(wide.data) + b * wide.axes[2].stride + r * wide.axes[1].stride;
            auto *to = static_cast<int32_t *>(narrow.data) + b * narrow.axes[2].stride + r * narrow.axes[1].stride;
            for (int64_t k = 0; k < wide.extent(0); k++) {
                if (from[k] < 0 || from[k] >= length) {
                    return invalid("imposed index {} at [{}, {}, {}] is outside of the {} positions", from[k], b, r, k, length);
                }
                to[k] = static_cast<int32_t>(from[k]);
            }
        }
    }
    return {};
}

// Every slot must be the one that its position maps back to.
Status refuse_duplicates(const View &indices, const View &slots) {
    for (int64_t b = 0; b < indices.extent(2); b++) {
        for (int64_t r = 0; r < indices.extent(1); r++) {
            const auto *index = static_cast<const int32_t *>(indices.data) + b * indices.axes[2].stride + r * indices.axes[1].stride;
            const auto *slot = static_cast<const int32_t *>(slots.data) + b * slots.axes[2].stride + r * slots.axes[1].stride;
            for (int64_t k = 0; k < indices.extent(0); k++) {
                if (slot[index[k]] != k) {
                    return invalid("imposed index {} occurs twice at [{}, {}]", index[k], b, r);
                }
            }
        }
    }
    return {};
}

}  // namespace

View mask_view(const Frame &f, Handle mask, int64_t length, int64_t batch) {
    return mask ? f[mask] : broadcast(ops::one_u8(2), {length, batch});
}

Status check_router_options(const RouterOptions &options) {
    if (options.n_iters < 1 || options.n_iters > kMostIterations) {
        return invalid("n_iters is {}, must be 1 to {}", options.n_iters, kMostIterations);
    }
    if (!(options.fetch_k_ratio >= 1)) {
        return invalid("fetch_k_ratio is {}, must be at least 1", options.fetch_k_ratio);
    }
    if (!(options.eps > 0)) {
        return invalid("eps is {}, must be positive", options.eps);
    }
    if (options.route_block_size && *options.route_block_size < 1) {
        return invalid("route_block_size is {}, must be at least 1", *options.route_block_size);
    }
    return {};
}

Result<Blocks> blocks_of(const RouterOptions &options, int64_t length, int64_t k) {
    Blocks blocks{1, length, k};
    if (options.route_block_size) {
        blocks.width = *options.route_block_size;
        blocks.count = length / blocks.width;
        if (blocks.count == 0) {
            return invalid("route_block_size {} is longer than the {} positions that are routed", blocks.width, length);
        }
        blocks.k = (k + blocks.count - 1) / blocks.count;
    }
    if (blocks.k > blocks.width) {
        return invalid("{} tokens cannot be routed from blocks of {} positions", blocks.k, blocks.width);
    }
    return blocks;
}

Routing route(PlanBuilder &builder, const RoutingRequest &request) {
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
        for (int64_t block = 0; block < blocks.count; block++) {
            const Descent d{request.similarities, request.mask, routing.soft_scores, B, block * blocks.width, blocks.width, request.first_router, R, log_k};
            request.options.n_iters == kFusedIterations ? descend_fused(builder, d, request.options) : descend_by_steps(builder, d, request.options);
        }
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
        builder.host(request.name + ", imposed", {imposed, indices}, [=](const Frame &f) { return narrow_indices(f[imposed], f[indices], N); });
    } else {
        for (int64_t block = 0; block < blocks.count; block++) {
            const int64_t begin = block * blocks.width;
            builder.step(
                request.name,
                [=](const Frame &f) {
                    return ops::SelectTokens{f[similarities].crop(0, begin, blocks.width).crop(1, first_router, R), mask_view(f, mask, N, B).crop(0, begin, blocks.width),
                                             static_cast<int32_t>(blocks.k), static_cast<int32_t>(begin), f[indices].crop(0, block * blocks.k, blocks.k)};
                },
                request.rank_order);
        }
    }
    builder.step("route slots", [=](const Frame &f) {
        return ops::RouteSlots{f[indices], mask_view(f, mask, N, B), soft ? f[made.soft_scores] : broadcast(ops::zero_f32(3), {N, R, B}), soft, source_div,
                               f[made.scores], f[made.valid], f[made.slots], f[made.rows]};
    });
    if (request.imposed && !builder.on_gpu()) {
        builder.host("check imposed routes", {indices, made.slots}, [=](const Frame &f) { return refuse_duplicates(f[indices], f[made.slots]); });
    }
    return routing;
}

namespace {

template<class From, class To>
void copy_rows(const View &from, const View &to) {
    for (int64_t b = 0; b < from.extent(2); b++) {
        for (int64_t r = 0; r < from.extent(1); r++) {
            const auto *source = static_cast<const From *>(from.data) + b * from.axes[2].stride + r * from.axes[1].stride;
            auto *target = static_cast<To *>(to.data) + b * to.axes[2].stride + r * to.axes[1].stride;
            std::copy(source, source + from.extent(0), target);
        }
    }
}

}  // namespace

void write_indices(PlanBuilder &builder, Handle indices, Handle output) {
    if (builder.on_gpu()) {
        builder.optional_step("write indices", output, [=](const Frame &f) { return ops::CopyIndices{f[indices], f[output]}; });
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
