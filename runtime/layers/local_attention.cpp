#include "moa/local_attention.h"

#include "runtime/layers/local_core.h"

#include <utility>

namespace moa {

struct LocalAttention::Impl {
    Config config;
    LocalWindows windows;
};

LocalAttention::LocalAttention(std::shared_ptr<const Impl> impl)
    : impl_(std::move(impl)) {
}

Result<LocalAttention> LocalAttention::create(const Config &config, const TensorMap &weights) try {
    WeightReader reader(weights);
    OptionCheck check("LocalAttention");
    check.size("dim_head", config.dim_head);
    check.that(!config.rotary || config.dim_head % 2 == 0, [&] { return text("rotary positions need an even dim_head, not {}", config.dim_head); });
    Result<LocalWindows> windows = windows_of(check, config, config.dim_head);
    if (!windows.ok()) {
        return windows.status();
    }
    auto impl = std::make_shared<Impl>(Impl{config, *windows});
    if (config.rotary) {
        impl->windows.inv_freq = reader.take("rel_pos.inv_freq", {config.dim_head / 2});
    }
    if (Status status = reader.finish(); !status) {
        return status;
    }
    return LocalAttention(std::move(impl));
} catch (...) {
    return caught("LocalAttention::create");
}

Result<Plan> LocalAttention::plan(const Shapes &s, const PlanOptions &options) const try {
    const Config &c = impl_->config;
    if (!c.autopad && s.length % c.window_size != 0) {
        return invalid("LocalAttention: length {} is no multiple of window_size {}, and autopad is off", s.length, c.window_size);
    }
    PlanBuilder builder(options);
    const std::vector<int64_t> shape{s.batch, s.heads, s.length, c.dim_head};
    const Handle q = builder.input("q", builder.dtype(), shape), k = builder.input("k", builder.dtype(), shape);
    const Handle v = builder.input("v", builder.dtype(), shape), out = builder.output("out", builder.dtype(), shape);
    const auto whole = [](Handle h) { return [h](const Frame &f) { return f[h]; }; };
    LocalRequest request{.batch = s.batch, .heads = s.heads, .length = s.length, .q = whole(q), .k = whole(k), .v = whole(v)};
    if (s.mask) {
        request.mask = builder.input("mask", DType::boolean, {s.batch, s.length});
    }
    if (s.attn_bias) {
        request.bias = builder.input("attn_bias", DType::f32, {s.heads, c.window_size, impl_->windows.slots()});
    }
    if (!builder.ok()) {
        return builder.status();
    }
    request.out = whole(out);
    local_attention(builder, impl_->windows, request);
    return builder.finish();
} catch (...) {
    return caught("LocalAttention::plan");
}

struct LocalMHA::Impl {
    Config config;
    LocalCore core;
};

LocalMHA::LocalMHA(std::shared_ptr<const Impl> impl)
    : impl_(std::move(impl)) {
}

Result<LocalMHA> LocalMHA::create(const Config &config, const TensorMap &weights) try {
    WeightReader reader(weights);
    Result<LocalCore> core = read_local_core(config, reader, "");
    if (!core.ok()) {
        return core.status();
    }
    if (Status status = reader.finish(); !status) {
        return status;
    }
    return LocalMHA(std::make_shared<Impl>(Impl{config, std::move(*core)}));
} catch (...) {
    return caught("LocalMHA::create");
}

Result<Plan> LocalMHA::plan(const Shapes &s, const PlanOptions &options) const try {
    const LocalCore &core = impl_->core;
    PlanBuilder builder(options);
    LocalCoreRequest request{.batch = s.batch, .length = s.length};
    request.x = builder.input("x", builder.dtype(), {s.batch, s.length, core.dim});
    if (s.mask) {
        request.mask = builder.input("mask", DType::boolean, {s.batch, s.length});
    }
    if (s.attn_bias) {
        request.bias = builder.input("attn_bias", DType::f32, {core.heads, core.windows.window, core.windows.slots()});
    }
    request.out = builder.output("out", builder.dtype(), {s.batch, s.length, core.dim});
    if (!builder.ok()) {
        return builder.status();
    }
    if (core.prenorm) {
        request.stats = row_statistics(builder, "row statistics", request.x, s.batch, s.length);
    }
    attend_locally(builder, core, request);
    // Plans stay valid without the layer: they keep what they read.
    builder.keep(impl_);
    return builder.finish();
} catch (...) {
    return caught("LocalMHA::plan");
}

}  // namespace moa
