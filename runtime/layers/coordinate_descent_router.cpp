#include "moa/coordinate_descent_router.h"

#include "runtime/layers/routing.h"

#include <cstring>
#include <utility>

namespace moa {

struct CoordinateDescentRouter::Impl {
    Config config;
    Floats routing_tokens;  // [r, c]
};

CoordinateDescentRouter::CoordinateDescentRouter(std::shared_ptr<const Impl> impl)
    : impl_(std::move(impl)) {
}

Result<CoordinateDescentRouter> CoordinateDescentRouter::create(const Config &config, const TensorMap &weights) try {
    WeightReader reader(weights);
    OptionCheck check("CoordinateDescentRouter");
    check.size("dim", config.dim).size("num_routing_tokens", config.num_routing_tokens).matrix("routing_token", {config.num_routing_tokens, config.dim});
    if (Status status = check_router_options(check, config); !status) {
        return status;
    }
    auto impl = std::make_shared<Impl>();
    impl->config = config;
    if (!config.learned_routing_tokens) {
        impl->routing_tokens = share(reader.take("routing_token", {config.num_routing_tokens, config.dim}));
    }
    if (Status status = reader.finish(); !status) {
        return status;
    }
    return CoordinateDescentRouter(std::move(impl));
} catch (...) {
    return caught("CoordinateDescentRouter::create");
}

namespace {

struct RouterOutputs {
    Handle scores, tokens, mask_out;
};

// 0 or 1 for every byte of a mask, whatever its strides.
void copy_mask(const View &from, const View &to) {
    for (int64_t b = 0; b < to.extent(1); b++) {
        const View source = from.pick(1, b);
        auto *target = static_cast<uint8_t *>(to.pick(1, b).data);
        for (int64_t n = 0; n < to.extent(0); n++) {
            target[n] = static_cast<const uint8_t *>(source.data)[n * source.axes[0].stride] != 0 ? 1 : 0;
        }
    }
}

// The same on a GPU: what routing says of the slots of every position.
void return_mask_on_gpu(PlanBuilder &builder, Handle mask_out, Handle mask, int64_t batch, int64_t routers, int64_t length) {
    const Handle every = builder.ramp({length});
    const Handle scores = builder.temporary(DType::f32, {batch, routers, length});
    const Handle slots = builder.temporary(DType::i32, {batch, routers, length}), rows = builder.temporary(DType::i32, {batch, routers, length});
    builder.optional_step("return all of the mask", mask_out, 1, [=](const Frame &f, int64_t) {
        return ops::RouteSlots{f[every].insert(1, {routers, 0}).insert(2, {batch, 0}), f[mask], broadcast(ops::zero_f32(3), {length, routers, batch}), false, 1,
                               f[scores], f[mask_out], f[slots], f[rows]};
    });
}

// What a router returns when it has nothing to choose: everything, with scores of 1, repeated for every routing token.
void return_all(PlanBuilder &builder, const RouterOutputs &out, Handle x, Handle mask, int64_t batch, int64_t routers, int64_t length) {
    builder.host("return all scores", {out.scores}, [=](const Frame &f) {
        for (int64_t b = 0; f.bound(out.scores) && b < batch; b++) {
            for (int64_t r = 0; r < routers; r++) {
                const View row = f[out.scores].pick(2, b).pick(1, r);
                if (f.on_gpu()) {
                    if (Status status = f.fill(row, 1.f); !status) {
                        return status;
                    }
                    continue;
                }
                std::fill_n(static_cast<float *>(row.data), length, 1.f);
            }
        }
        return Status();
    });
    builder.host("return all", {x, out.tokens}, [=](const Frame &f) {
        for (int64_t r = 0; f.bound(out.tokens) && r < routers; r++) {
            const View source = f[x], target = f[out.tokens].pick(2, r);
            if (f.on_gpu()) {
                if (Status status = f.copy(source, target); !status) {
                    return status;
                }
                continue;
            }
            const size_t row_bytes = static_cast<size_t>(source.extent(0)) * size_bytes(source.dtype);
            for (int64_t b = 0; b < batch; b++) {
                for (int64_t n = 0; n < length; n++) {
                    std::memcpy(target.pick(2, b).pick(1, n).data, source.pick(2, b).pick(1, n).data, row_bytes);
                }
            }
        }
        return Status();
    });
    if (mask && builder.on_gpu()) {
        return_mask_on_gpu(builder, out.mask_out, mask, batch, routers, length);
    } else if (mask) {
        builder.host("return all of the mask", {mask, out.mask_out}, [=](const Frame &f) {
            for (int64_t r = 0; f.bound(out.mask_out) && r < routers; r++) {
                copy_mask(f[mask], f[out.mask_out].pick(1, r));
            }
            return Status();
        });
    }
}

// Rows of x by flattened position.
Status gather_tokens(const View &x, const View &rows, const View &out) {
    const int64_t length = x.extent(1);
    const size_t row_bytes = static_cast<size_t>(x.extent(0)) * size_bytes(x.dtype);
    for (int64_t b = 0; b < rows.extent(2); b++) {
        for (int64_t r = 0; r < rows.extent(1); r++) {
            const View picked = rows.pick(2, b).pick(1, r), target = out.pick(3, b).pick(2, r);
            for (int64_t k = 0; k < rows.extent(0); k++) {
                const int64_t row = static_cast<const int32_t *>(picked.data)[k];
                std::memcpy(target.pick(1, k).data, x.pick(2, row / length).pick(1, row % length).data, row_bytes);
            }
        }
    }
    return {};
}

void gather_on_host(PlanBuilder &builder, Handle x, Handle rows, Handle out) {
    builder.host("gather tokens", {x, rows, out}, [=](const Frame &f) { return f.bound(out) ? gather_tokens(f[x], f[rows], f[out]) : Status(); });
}

// The same by combine, whose one expert is x: a launch for every routing token, and (where rows come from other entries)
// for every entry of the batch.
void gather_on_gpu(PlanBuilder &builder, Handle x, Handle indices, Handle out, int64_t source_div) {
    const View shape = builder.shapes()[out];
    const int64_t dim = shape.extent(0), k = shape.extent(1), routers = shape.extent(2), batch = shape.extent(3);
    const int64_t launches = source_div == 1 ? 1 : batch, entries = source_div == 1 ? batch : 1;
    const Handle null_token = builder.table("zeros", {dim}, [=] { return std::vector<float>(static_cast<size_t>(dim)); });
    builder.optional_step("gather tokens", out, launches * routers, [=](const Frame &f, int64_t index) {
        const int64_t launch = index / routers, r = index % routers;
        ops::Combine a;
        a.a = f[x].crop(2, launch / source_div, entries).insert(2, {1, 0});
        a.slots = f[indices].pick(1, r).crop(1, launch, entries).insert(1, {1, 0});
        a.valid = broadcast(ops::one_u8(3), {a.a.extent(1), 1, entries});
        a.local = broadcast(ops::zero_of(a.a.dtype, 3), {dim, k, entries});
        a.null_token = f[null_token];
        a.mask = broadcast(ops::one_u8(2), {k, entries});
        a.out = f[out].pick(2, r).crop(2, launch, entries);
        return a;
    });
}

}  // namespace

Result<Plan> CoordinateDescentRouter::plan(const Shapes &s, const PlanOptions &options) const try {
    const Config &c = impl_->config;
    const int64_t B = s.batch, N = s.length, R = c.num_routing_tokens, D = c.dim;
    if (s.num_tokens < 0) {
        return invalid("CoordinateDescentRouter: num_tokens is {}, must not be negative", s.num_tokens);
    }
    const bool routed = N > s.num_tokens;
    if (s.impose && !routed) {
        return invalid("CoordinateDescentRouter: routes are imposed, but {} positions with {} routed are not routed", N, s.num_tokens);
    }
    PlanBuilder builder(options);
    int64_t k = N;
    if (routed) {
        const Result<Blocks> blocks = blocks_of(c, N, s.num_tokens);
        if (!blocks.ok()) {
            return blocks.status();
        }
        if (blocks->count > 1 && c.semantics == Semantics::reference) {
            return Status(Code::unsupported, "semantics reference: the package fails when it routes more than one block");
        }
        k = blocks->count * blocks->k;
    }
    const Handle x = builder.input("x", builder.dtype(), {B, N, D});
    const Handle mask = s.mask ? builder.input("mask", DType::boolean, {B, N}) : Handle{};
    const Handle given = c.learned_routing_tokens ? builder.input("routing_tokens", DType::f32, {B, R, D}) : Handle{};
    RouterOutputs out{builder.output("scores", DType::f32, {B, R, k}, true), builder.output("tokens", builder.dtype(), {B, R, k, D}, true), {}};
    if (s.mask) {
        out.mask_out = builder.output("mask_out", DType::boolean, {B, R, k}, true);
    }
    if (!builder.ok()) {
        return builder.status();
    }
    if (!routed) {
        return_all(builder, out, x, mask, B, R, N);
        return builder.finish();
    }
    RoutingRequest request{.name = "select tokens", .options = c, .batch = B, .length = N, .routers = R, .k = s.num_tokens, .mask = mask};
    const Handle indices = builder.output("indices", DType::i64, {B, R, k}, true);
    const Handle similarities = builder.output("similarities", DType::f32, {B, R, N}, true);
    request.imposed = s.impose ? builder.input("imposed_indices", DType::i64, {B, R, k}) : Handle{};
    request.similarities = builder.temporary(DType::f32, {B, R, N});
    const Handle tokens = given ? given : builder.constant(impl_->routing_tokens, {R, D});
    const Handle stats = builder.temporary(DType::f32, {B, 3, N});
    const float cosine = c.cosine_sim_routing ? static_cast<float>(c.cosine_sim_scale) : 0.f;
    builder.step("router scores", [=, scores = request.similarities](const Frame &f) {
        return ops::RouterScores{f[x], given ? f[tokens] : f[tokens].insert(2, {B, 0}), cosine, f[scores], f[stats]};
    });
    request.source_div = c.semantics == Semantics::reference ? R : 1;
    request.rank_order = true;
    request.soft_scores = s.soft_scores;
    const Routing routing = route(builder, request);
    write_indices(builder, routing.indices, indices);
    write_copy(builder, request.similarities, similarities);
    write_copy(builder, routing.scores, out.scores);
    if (routing.soft_scores) {
        write_copy(builder, routing.soft_scores, builder.output("soft_scores", DType::f32, {B, R, N}, true));
    }
    if (builder.ok() && builder.on_gpu()) {
        gather_on_gpu(builder, x, routing.indices, out.tokens, request.source_div);
    } else {
        gather_on_host(builder, x, routing.rows, out.tokens);
    }
    if (s.mask) {
        builder.host("write mask", {routing.valid, out.mask_out}, [=](const Frame &f) {
            if (f.on_gpu()) {
                return f.bound(out.mask_out) ? f.copy(f[routing.valid], f[out.mask_out]) : Status();
            }
            for (int64_t b = 0; f.bound(out.mask_out) && b < B; b++) {
                for (int64_t r = 0; r < R; r++) {
                    std::memcpy(f[out.mask_out].pick(2, b).pick(1, r).data, f[routing.valid].pick(2, b).pick(1, r).data, static_cast<size_t>(k));
                }
            }
            return Status();
        });
    }
    return builder.finish();
} catch (...) {
    return caught("CoordinateDescentRouter::plan");
}

}  // namespace moa
