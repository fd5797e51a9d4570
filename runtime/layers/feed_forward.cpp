#include "moa/feed_forward.h"

#include "runtime/layers/common.h"

#include <utility>

namespace moa {

struct FeedForward::Impl {
    Config config;
    std::shared_ptr<const PreparedLinear> widen, narrow;
};

FeedForward::FeedForward(std::shared_ptr<const Impl> impl)
    : impl_(std::move(impl)) {
}

Result<FeedForward> FeedForward::create(const Config &config, const TensorMap &weights) try {
    const int64_t dim = config.dim, hidden = config.hidden;
    if (Status status = OptionCheck("FeedForward").size("dim", dim).size("hidden", hidden).matrix("1.weight", {hidden, dim}).status(); !status) {
        return status;
    }
    WeightReader reader(weights);
    std::vector<float> first = reader.take("1.weight", {hidden, dim}), second = reader.take("3.weight", {dim, hidden});
    const std::vector<float> gain = reader.take("0.gamma", {dim});
    std::vector<float> first_bias = reader.take("1.bias", {hidden}), second_bias = reader.take("3.bias", {dim});
    if (Status status = reader.finish(); !status) {
        return status;
    }
    fold_gain(first, gain, dim);
    auto impl = std::make_shared<Impl>();
    impl->config = config;
    impl->widen = std::make_shared<PreparedLinear>(1, hidden, dim, std::move(first), std::move(first_bias));
    impl->narrow = std::make_shared<PreparedLinear>(1, dim, hidden, std::move(second), std::move(second_bias));
    return FeedForward(std::move(impl));
} catch (...) {
    return caught("FeedForward::create");
}

Result<Plan> FeedForward::plan(int64_t batch, int64_t length, const PlanOptions &options) const try {
    const Config &c = impl_->config;
    PlanBuilder builder(options);
    const Handle x = builder.input("x", builder.dtype(), {batch, length, c.dim});
    const Handle out = builder.output("out", builder.dtype(), {batch, length, c.dim});
    Product widen{.name = "widen", .linear = impl_->widen, .batch = batch};
    widen.tokens = {.x = x, .stats = row_statistics(builder, "row statistics", x, batch, length), .count = length};
    widen.norm = ops::Norm::rms;
    widen.activation = ops::Activation::gelu;
    const Handle hidden = builder.temporary(builder.dtype(), {batch, length, c.hidden});
    widen.out = builder.reshape(hidden, {batch, 1, length, c.hidden});
    project(builder, widen);
    Product narrow{.name = "narrow", .linear = impl_->narrow, .batch = batch};
    narrow.tokens = {.x = hidden, .count = length};
    narrow.out = out;
    project(builder, narrow);
    return builder.finish();
} catch (...) {
    return caught("FeedForward::plan");
}

struct Linear::Impl {
    Config config;
    std::shared_ptr<const PreparedLinear> product;
};

Linear::Linear(std::shared_ptr<const Impl> impl)
    : impl_(std::move(impl)) {
}

Result<Linear> Linear::create(const Config &config, const TensorMap &weights) try {
    const int64_t in = config.dim_in, out = config.dim_out;
    if (Status status = OptionCheck("Linear").size("dim_in", in).size("dim_out", out).matrix("weight", {out, in}).status(); !status) {
        return status;
    }
    WeightReader reader(weights);
    std::vector<float> weight = reader.take("weight", {out, in});
    const std::vector<float> gain = config.rms_norm ? reader.take("gamma", {in}) : std::vector<float>();
    std::vector<float> bias = config.bias ? reader.take("bias", {out}) : std::vector<float>();
    if (Status status = reader.finish(); !status) {
        return status;
    }
    if (config.rms_norm) {
        fold_gain(weight, gain, in);
    }
    auto impl = std::make_shared<Impl>();
    impl->config = config;
    impl->product = std::make_shared<PreparedLinear>(1, out, in, std::move(weight), std::move(bias));
    return Linear(std::move(impl));
} catch (...) {
    return caught("Linear::create");
}

Result<Plan> Linear::plan(int64_t batch, int64_t length, const PlanOptions &options) const try {
    const Config &c = impl_->config;
    PlanBuilder builder(options);
    const Handle x = builder.input("x", builder.dtype(), {batch, length, c.dim_in});
    Product product{.name = "product", .linear = impl_->product, .batch = batch};
    product.out = builder.output("out", builder.dtype(), {batch, length, c.dim_out});
    product.tokens = {.x = x, .count = length};
    if (c.rms_norm) {
        product.tokens.stats = row_statistics(builder, "row statistics", x, batch, length);
        product.norm = ops::Norm::rms;
    }
    project(builder, product);
    return builder.finish();
} catch (...) {
    return caught("Linear::plan");
}

}  // namespace moa
