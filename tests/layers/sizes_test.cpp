#include "tests/failing_memory.h"

#include "tests/layers/every_layer.h"

#include <gtest/gtest.h>

// Sizes are refused before anything is allocated for them, and planning takes no longer for a larger batch.
namespace moa::tests {
namespace {

constexpr int64_t kHuge[] = {int64_t{1} << 31, int64_t{1} << 40, int64_t{1} << 62, INT64_MAX};

// The plan is refused, at once and for next to no memory.
template<class Make>
void expect_refused(const std::string &what, Make make) {
    constexpr int64_t kLittle = 1 << 20;
    const int64_t before = memory::bytes;
    memory::watch();
    const Status status = make();
    EXPECT_TRUE(status.code() == Code::invalid_argument || status.code() == Code::unsupported) << what << ": " << name_of(status.code()) << ": " << status.message();
    EXPECT_LT(memory::peak(before), kLittle) << what;
}

Attention small_attention() {
    const Attention::Config config{.dim = 8, .dim_head = 8, .heads = 1};
    return *Attention::create(config, attention_weights(config)->map);
}

TEST(HugeSizes, OfAttentionAreRefusedAtOnce) {
    const Attention layer = small_attention();
    for (const int64_t huge : kHuge) {
        for (const bool rotary : {false, true}) {
            const auto plan = [&](Attention::Shapes shapes) {
                shapes.rotary = rotary;
                expect_refused("Attention " + std::to_string(huge), [&] { return layer.plan(shapes).status(); });
            };
            plan({.batch = 1, .queries = huge});
            plan({.batch = huge, .queries = 4});
            plan({.batch = huge, .queries = huge});
            plan({.batch = 0, .queries = huge});
            plan({.batch = 1, .queries = 4, .keys = huge});
            plan({.batch = huge, .queries = 0});
        }
    }
}

TEST(HugeSizes, OfLayersAreRefusedAtOnce) {
    MixtureOfAttention::Config config = small_config();
    Weights weights;
    add_weights(weights, config);
    const MixtureOfAttention mixture = *MixtureOfAttention::create(config, weights.map);
    CoordinateDescentRouter::Config router_config;
    router_config.dim = 8;
    router_config.route_block_size = 1;
    Weights tokens;
    tokens.add("routing_token", {1, 8});
    const CoordinateDescentRouter router = *CoordinateDescentRouter::create(router_config, tokens.map);
    Weights linear_weights;
    linear_weights.add("weight", {4, 8});
    const Linear linear = *Linear::create({.dim_in = 8, .dim_out = 4}, linear_weights.map);
    LocalMHA::Config heads;
    heads.dim = 8;
    heads.dim_head = 8;
    heads.heads = 1;
    heads.window_size = 4;
    const LocalMHA local = *LocalMHA::create(heads, local_weights(heads)->map);
    for (const int64_t huge : kHuge) {
        for (const int64_t other : {int64_t{0}, int64_t{4}, huge}) {
            const std::string what = std::to_string(huge) + " and " + std::to_string(other);
            expect_refused("mixture " + what, [&] { return mixture.plan({.batch = huge, .length = other}).status(); });
            expect_refused("mixture " + what, [&] { return mixture.plan({.batch = other, .length = huge, .rotary = true}).status(); });
            expect_refused("router " + what, [&] { return router.plan({.batch = huge, .length = other, .num_tokens = 2}).status(); });
            expect_refused("router " + what, [&] { return router.plan({.batch = other, .length = huge, .num_tokens = 2}).status(); });
            expect_refused("linear " + what, [&] { return linear.plan(huge, other).status(); });
            expect_refused("linear " + what, [&] { return linear.plan(other, huge).status(); });
            expect_refused("LocalMHA " + what, [&] { return local.plan({.batch = huge, .length = other}).status(); });
            expect_refused("LocalMHA " + what, [&] { return local.plan({.batch = other, .length = huge}).status(); });
        }
    }
}

TEST(HugeSizes, OfLocalAttentionAreRefusedAtOnce) {
    for (const int64_t dim_head : {int64_t{1} << 15, int64_t{65536}, int64_t{1} << 20}) {
        LocalAttention::Config config;
        config.window_size = 1 << 20;
        config.look_backward = config.look_forward.emplace(64);
        config.dim_head = dim_head;
        config.autopad = true;
        const LocalAttention layer = *LocalAttention::create(config, {});
        for (const int64_t huge : kHuge) {
            expect_refused("LocalAttention heads", [&] { return layer.plan({.batch = 1, .heads = huge, .length = 10}).status(); });
            expect_refused("LocalAttention length", [&] { return layer.plan({.batch = 1, .heads = 1, .length = huge}).status(); });
        }
        EXPECT_NO_THROW((void)layer.plan({.batch = 1, .heads = 1, .length = 10}).ok());
        expect_refused("LocalAttention bias", [&] { return layer.plan({.batch = 1, .heads = 1, .length = 10, .attn_bias = true}).status(); });
    }
}

TEST(HugeSizes, OfConfigurationsAreRefusedAtOnce) {
    constexpr int64_t kMost = int64_t{1} << 20;
    for (const int64_t size : {INT64_MIN, int64_t{-1}, int64_t{0}, kMost + 1, INT64_MAX}) {
        expect_refused("Linear", [&] { return Linear::create({.dim_in = size, .dim_out = 4}, {}).status(); });
        expect_refused("FeedForward", [&] { return FeedForward::create({.dim = 4, .hidden = size}, {}).status(); });
        for (auto member : {&Attention::Config::dim, &Attention::Config::dim_head, &Attention::Config::heads, &Attention::Config::groups}) {
            Attention::Config config{.dim = 4};
            config.*member = size;
            expect_refused("Attention", [&] { return Attention::create(config, {}).status(); });
        }
        for (auto member : {&MixtureOfAttention::Config::dim, &MixtureOfAttention::Config::num_experts, &MixtureOfAttention::Config::dim_head, &MixtureOfAttention::Config::heads}) {
            MixtureOfAttention::Config config = small_config();
            config.*member = size;
            expect_refused("MixtureOfAttention", [&] { return MixtureOfAttention::create(config, {}).status(); });
        }
        for (auto member : {&LocalMHA::Config::dim, &LocalMHA::Config::dim_head, &LocalMHA::Config::heads}) {
            LocalMHA::Config config;
            config.dim = 4;
            config.window_size = 4;
            config.*member = size;
            expect_refused("LocalMHA", [&] { return LocalMHA::create(config, {}).status(); });
        }
    }
    // Each fits, their product does not fit 64 bits.
    const Status all = Attention::create({.dim = kMost, .dim_head = kMost, .heads = kMost, .groups = kMost}, {}).status();
    EXPECT_NE(all.message().find("2^31 - 1"), std::string::npos) << all.message();
}

// A view whose strides are 0 claims more than there is memory for.
TEST(HugeSizes, OfWeightsSayWhatTheyWanted) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    GTEST_SKIP() << "sanitizers end the process for such a size";
#endif
    float one = 1;
    TensorView view(&one, DType::f32, {int64_t{1} << 29, int64_t{1} << 20, 1});
    view.strides = {0, 0, 0};
    const Attention::Config config{.dim = 1 << 20, .dim_head = 512, .heads = 1, .groups = 1 << 20};
    const Status status = Attention::create(config, {{"to_q.weight", view}}).status();
    EXPECT_EQ(status.code(), Code::out_of_memory);
    EXPECT_EQ(status.message(), "Attention::create: no memory for the 2251799813685248 bytes of weight to_q.weight");
}

size_t steps_of(const Result<Plan> &plan) {
    EXPECT_TRUE(plan.ok()) << plan.status().message();
    return plan.ok() ? plan->steps().size() : 0;
}

TEST(Planning, TakesNoMoreStepsForALargerBatch) {
    const Attention layer = small_attention();
    EXPECT_EQ(steps_of(layer.plan({.batch = 1000000, .queries = 4, .rotary = true})), steps_of(layer.plan({.batch = 1, .queries = 4, .rotary = true})));
    CoordinateDescentRouter::Config config;
    config.dim = 8;
    config.num_routing_tokens = 2;
    config.route_block_size = 2;
    config.n_iters = 3;
    config.straight_through = false;
    Weights tokens;
    tokens.add("routing_token", {2, 8});
    const CoordinateDescentRouter router = *CoordinateDescentRouter::create(config, tokens.map);
    EXPECT_EQ(steps_of(router.plan({.batch = 1, .length = 1000000, .num_tokens = 1000})), steps_of(router.plan({.batch = 1, .length = 4, .num_tokens = 1})));
}

}  // namespace
}  // namespace moa::tests
