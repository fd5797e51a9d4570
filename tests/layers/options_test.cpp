#include "tests/layers/any_arguments.h"
#include "tests/layers/every_layer.h"

#include <cmath>
#include <functional>
#include <gtest/gtest.h>
#include <limits>

// Options are judged as the floats that kernels use, and refused by name.
namespace moa::tests {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN(), kInfinity = std::numeric_limits<double>::infinity();

Status router(const std::function<void(CoordinateDescentRouter::Config &)> &change) {
    CoordinateDescentRouter::Config config;
    config.dim = 8;
    config.straight_through = false;
    change(config);
    Weights weights;
    weights.add("routing_token", {1, 8});
    const Result<CoordinateDescentRouter> layer = CoordinateDescentRouter::create(config, weights.map);
    if (!layer.ok()) {
        return layer.status();
    }
    const Result<Plan> plan = layer->plan({.batch = 1, .length = 12, .num_tokens = 3});
    EXPECT_TRUE(plan.ok()) << plan.status().message();
    AnyArguments arguments(*plan);
    EXPECT_TRUE(arguments.run(0xff).ok());
    const auto *soft = static_cast<const float *>(arguments["soft_scores"].data);
    EXPECT_TRUE(std::all_of(soft, soft + 12, [](float score) { return score >= 0 && score <= 1; }));
    return {};
}

Status local(const std::function<void(LocalAttention::Config &)> &change) {
    LocalAttention::Config config;
    config.window_size = 8;
    config.dim_head = 16;
    config.autopad = config.rotary = true;
    change(config);
    Weights weights;
    weights.add("rel_pos.inv_freq", {8});
    const Result<LocalAttention> layer = LocalAttention::create(config, weights.map);
    if (!layer.ok()) {
        return layer.status();
    }
    const Result<Plan> plan = layer->plan({.batch = 1, .heads = 1, .length = 20});
    EXPECT_TRUE(plan.ok()) << plan.status().message();
    AnyArguments arguments(*plan);
    EXPECT_TRUE(arguments.run(0xff).ok());
    const auto *out = static_cast<const float *>(arguments["out"].data);
    EXPECT_TRUE(std::all_of(out, out + 320, [](float value) { return std::isfinite(value); }));
    return {};
}

void expect_refused(const Status &status, const std::string &name) {
    EXPECT_EQ(status.code(), Code::invalid_argument) << name;
    EXPECT_NE(status.message().find(name), std::string::npos) << name << ": " << status.message();
}

TEST(RouterOptions, AreFiniteFloats) {
    using Config = CoordinateDescentRouter::Config;
    const std::pair<const char *, std::function<void(Config &, double)>> numbers[] = {
        {"eps", [](Config &c, double v) { c.eps = v; }},
        {"eps_init", [](Config &c, double v) { c.eps_init = v; }},
        {"eps_decay", [](Config &c, double v) { c.eps_decay = v; }},
        {"fetch_k_ratio", [](Config &c, double v) { c.fetch_k_ratio = v; }},
        {"cosine_sim_scale", [](Config &c, double v) { c.cosine_sim_scale = v, c.cosine_sim_routing = true; }},
    };
    for (const auto &[name, set] : numbers) {
        for (const double value : {kNan, kInfinity, -kInfinity, 1e300, 1e39, 1e-50}) {
            expect_refused(router([&](Config &c) { set(c, value); }), name);
        }
    }
    const auto refused = [](const char *name, auto set) { expect_refused(router(set), name); };
    refused("eps", [](Config &c) { c.eps = 0; });
    refused("eps", [](Config &c) { c.eps = -1; });
    refused("eps_decay", [](Config &c) { c.eps_decay = -0.5; });
    refused("eps_decay", [](Config &c) { c.eps_decay = 1e30; });  // 4e30 is a float, 4e60 is none
    refused("fetch_k_ratio", [](Config &c) { c.fetch_k_ratio = 0.99; });
    refused("cosine_sim_scale", [](Config &c) { c.cosine_sim_scale = 0, c.cosine_sim_routing = true; });
    refused("n_iters", [](Config &c) { c.n_iters = 0; });
    refused("n_iters is 4097, must be 1 to 4096", [](Config &c) { c.n_iters = 4097; });
    refused("route_block_size", [](Config &c) { c.route_block_size = 0; });
    EXPECT_TRUE(router([](Config &) {}).ok());
    EXPECT_TRUE(router([](Config &c) { c.eps_init = std::nullopt, c.eps_decay = 0; }).ok());
    EXPECT_TRUE(router([](Config &c) { c.cosine_sim_routing = true, c.cosine_sim_scale = -8; }).ok());
    EXPECT_TRUE(router([](Config &c) { c.n_iters = 4096; }).ok());
}

TEST(MixtureOptions, AreCheckedLikeARouters) {
    for (const double value : {kNan, kInfinity, 1e300}) {
        MixtureOfAttention::Config config = small_config();
        Weights weights;
        add_weights(weights, config);
        config.eps_init = value;
        expect_refused(MixtureOfAttention::create(config, weights.map).status(), "MixtureOfAttention: eps_init");
    }
}

TEST(LocalOptions, AreFiniteFloats) {
    using Config = LocalAttention::Config;
    for (const double value : {kNan, kInfinity, -kInfinity, 1e300, 1e-50}) {
        expect_refused(local([&](Config &c) { c.scale = value; }), "scale");
        expect_refused(local([&](Config &c) { c.use_xpos = true, c.xpos_scale_base = value; }), "xpos_scale_base");
    }
    const auto refused = [](const char *name, auto set) { expect_refused(local(set), name); };
    refused("xpos_scale_base", [](Config &c) { c.use_xpos = true, c.xpos_scale_base = 0; });
    refused("xpos_scale_base", [](Config &c) { c.use_xpos = true, c.xpos_scale_base = 1e-3; });  // 0.29 ^ 12000
    refused("xpos_scale_base", [](Config &c) { c.use_xpos = true, c.window_size = 1; });         // half of 1
    refused("xpos_scale_base", [](Config &c) { c.use_xpos = true, c.scale = 1e38; });
    refused("window_size", [](Config &c) { c.window_size = 0; });
    refused("window_size", [](Config &c) { c.window_size = (1 << 20) + 1; });
    refused("look_backward", [](Config &c) { c.look_backward = 65; });
    refused("look_forward", [](Config &c) { c.look_forward = -1; });
    refused("look_forward", [](Config &c) { c.causal = true, c.look_forward = 1; });
    refused("dim_head", [](Config &c) { c.dim_head = 15; });
    EXPECT_TRUE(local([](Config &) {}).ok());
    EXPECT_TRUE(local([](Config &c) { c.scale = 0; }).ok());
    EXPECT_TRUE(local([](Config &c) { c.use_xpos = true; }).ok());
    EXPECT_TRUE(local([](Config &c) { c.use_xpos = true, c.xpos_scale_base = -4; }).ok());
    LocalMHA::Config heads;
    heads.dim = 8;
    heads.dim_head = 8;
    heads.window_size = 4;
    heads.qk_rmsnorm = true;
    for (const double value : {kNan, kInfinity, 1e39, 1e-50}) {
        heads.qk_scale = value;
        expect_refused(LocalMHA::create(heads, local_weights(heads)->map).status(), "qk_scale");
    }
}

}  // namespace
}  // namespace moa::tests
