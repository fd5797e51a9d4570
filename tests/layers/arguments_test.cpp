#include "tests/layers/any_arguments.h"
#include "tests/layers/every_layer.h"

#include <algorithm>
#include <gtest/gtest.h>

// What runs refuse of their arguments, and layers of their weights: all of it before anything is written.
namespace moa::tests {
namespace {

bool contains(const std::string &text, std::string_view part) {
    return text.find(part) != std::string::npos;
}

class LinearRun : public testing::Test {
protected:
    LinearRun() {
        weights.add("weight", {8, 4});
        layer = std::make_unique<Linear>(*Linear::create({.dim_in = 4, .dim_out = 8}, weights.map));
        plan = std::make_unique<Plan>(*layer->plan(2, 3));
        x = normal_values(2 * 3 * 4, 1);
        memory.assign(1000, -7);
    }
    static TensorView strided(TensorView view, std::array<int64_t, kMaxRank> strides) {
        view.strides = strides;
        return view;
    }
    TensorView input() {
        return {x.data(), DType::f32, {2, 3, 4}};
    }
    TensorView output(size_t at = 0) {
        return {memory.data() + at, DType::f32, {2, 3, 8}};
    }
    std::string refusal(const TensorView &in, const TensorView &out) {
        const Status status = plan->run({{"x", in}, {"out", out}});
        EXPECT_EQ(status.code(), Code::invalid_argument) << status.message();
        EXPECT_TRUE(std::all_of(memory.begin(), memory.end(), [](float value) { return value == -7; })) << "written";
        return status.message();
    }
    std::vector<float> expected() {
        std::vector<float> out(48);
        EXPECT_TRUE(plan->run({{"x", input()}, {"out", TensorView(out.data(), DType::f32, {2, 3, 8})}}).ok());
        return out;
    }

    Weights weights;
    std::unique_ptr<Linear> layer;
    std::unique_ptr<Plan> plan;
    std::vector<float> x, memory;
};

TEST_F(LinearRun, OutputsMustNotOverlapThemselves) {
    for (const auto &strides : {std::array<int64_t, kMaxRank>{8, 8, 1}, {24, 4, 1}, {24, 0, 1}, {0, 8, 1}, {7, 16, 1}, {1, 8, 1}}) {
        const std::string message = refusal(input(), strided(output(), strides));
        EXPECT_TRUE(contains(message, "out") && (contains(message, "share memory") || contains(message, "stride"))) << message;
    }
    for (const auto &strides : {std::array<int64_t, kMaxRank>{24, 8, 1}, {8, 16, 1}, {100, 11, 1}}) {
        const Status status = plan->run({{"x", input()}, {"out", strided(output(), strides)}});
        EXPECT_TRUE(status.ok()) << status.message();
    }
}

TEST_F(LinearRun, ColumnsOfOneMatrixAreApart) {
    std::vector<float> both(2 * 3 * 12, 1);
    const TensorView in = strided({both.data(), DType::f32, {2, 3, 4}}, {36, 12, 1}), out = strided({both.data() + 4, DType::f32, {2, 3, 8}}, {36, 12, 1});
    for (int row = 0; row < 6; row++) {
        std::copy_n(x.begin() + row * 4, 4, both.begin() + row * 12);
    }
    const Status status = plan->run({{"x", in}, {"out", out}});
    ASSERT_TRUE(status.ok()) << status.message();
    const std::vector<float> wanted = expected();
    for (int row = 0; row < 6; row++) {
        EXPECT_TRUE(std::equal(wanted.begin() + row * 8, wanted.begin() + row * 8 + 8, both.begin() + row * 12 + 4)) << row;
    }
    // One column too many, in front and behind.
    for (const size_t at : {3, 5}) {
        const Status shared = plan->run({{"x", in}, {"out", strided({both.data() + at, DType::f32, {2, 3, 8}}, {36, 12, 1})}});
        EXPECT_TRUE(contains(shared.message(), "output out overlaps x")) << at << ": " << shared.message();
    }
}

TEST_F(LinearRun, PlanesAndBatchesOfOneBufferAreApart) {
    std::vector<float> buffer(1000);
    // Batch entries in turn: x, out, x, out.
    const TensorView in = strided({buffer.data(), DType::f32, {2, 3, 4}}, {36, 4, 1}), out = strided({buffer.data() + 12, DType::f32, {2, 3, 8}}, {36, 8, 1});
    EXPECT_TRUE(plan->run({{"x", in}, {"out", out}}).ok());
    EXPECT_FALSE(plan->run({{"x", in}, {"out", strided({buffer.data() + 11, DType::f32, {2, 3, 8}}, {36, 8, 1})}}).ok());
}

TEST_F(LinearRun, NothingMayLieInTheWorkspace) {
    const auto found = std::find_if(every_layer().begin(), every_layer().end(), [](const AnyLayer &any) { return any.name == "mixture_self"; });
    const Result<Plan> mixture = found->make({});
    ASSERT_TRUE(mixture.ok());
    AnyArguments arguments(*mixture);
    for (const char *name : {"x", "out", "query_indices", "mask"}) {
        const TensorView kept = arguments[name];
        const Bytes workspace(mixture->workspace_bytes() + 4096, 0x11);
        for (const size_t at : {size_t{0}, size_t{4096}, mixture->workspace_bytes() - 64}) {
            arguments[name].data = workspace.data() + at;
            const Status status = mixture->run(arguments.tensors(), workspace.span());
            EXPECT_TRUE(contains(status.message(), std::string(name) + " overlaps the workspace")) << status.message();
        }
        EXPECT_TRUE(std::all_of(workspace.data(), workspace.data() + workspace.size(), [](std::byte byte) { return byte == std::byte{0x11}; })) << "written";
        arguments[name] = kept;
    }
    EXPECT_TRUE(arguments.run(0).ok());
}

TEST_F(LinearRun, MessagesSayTheDifference) {
    const TensorView wide(x.data(), DType::f32, {2, 3, 5}), flat(x.data(), DType::f32, {6, 4}), narrow(x.data(), DType::bf16, {2, 3, 4});
    EXPECT_TRUE(contains(refusal(wide, output()), "x: the plan wants f32 [2, 3, 4] on cpu, not f32 [2, 3, 5] on cpu: its axis 2 is 5, not 4"));
    EXPECT_TRUE(contains(refusal(flat, output()), "its rank is 2, not 3"));
    EXPECT_TRUE(contains(refusal(narrow, output()), "its dtype is bf16, not f32"));
    TensorView broken = input();
    for (const int rank : {-1, 7, 1000, INT32_MIN}) {
        broken.rank = rank;
        EXPECT_TRUE(contains(refusal(broken, output()), "its rank is " + std::to_string(rank) + ", not 3"));
    }
    EXPECT_TRUE(contains(refusal(strided(input(), {12, 4, 2}), output()), "innermost stride is 2"));
    EXPECT_TRUE(contains(refusal(strided(input(), {12, -4, 1}), output()), "stride -4 of axis 1 is negative"));
    EXPECT_TRUE(contains(refusal(strided(input(), {INT64_MAX, 4, 1}), output()), "beyond any memory"));
    EXPECT_TRUE(contains(refusal(strided(input(), {INT64_C(1) << 31, 4, 1}), output()), "2^31"));
    EXPECT_TRUE(contains(refusal(strided(input(), {(INT64_C(1) << 30) + 1, 4, 1}), output()), "2^31"));
    EXPECT_TRUE(contains(refusal({reinterpret_cast<std::byte *>(x.data()) + 1, DType::f32, {2, 3, 4}}, output()), "not aligned to 4 bytes"));
    EXPECT_TRUE(contains(refusal({static_cast<void *>(nullptr), DType::f32, {2, 3, 4}}, output()), "null"));
}

TEST_F(LinearRun, StridesOfSingleElementsDoNotMatter) {
    const Result<Plan> one = layer->plan(1, 1);
    ASSERT_TRUE(one.ok());
    for (const int64_t stride : {int64_t{0}, int64_t{-5}, INT64_MAX, INT64_MIN}) {
        const TensorView in = strided({x.data(), DType::f32, {1, 1, 4}}, {stride, stride, 1}), out = strided({memory.data(), DType::f32, {1, 1, 8}}, {stride, stride, 1});
        const Status status = one->run({{"x", in}, {"out", out}});
        EXPECT_TRUE(status.ok()) << stride << ": " << status.message();
    }
    const Result<Plan> none = layer->plan(3, 0);
    ASSERT_TRUE(none.ok());
    const TensorView nothing = strided({x.data(), DType::f32, {3, 0, 4}}, {INT64_MAX, INT64_MIN, 7});
    EXPECT_TRUE(none->run({{"x", nothing}, {"out", strided({memory.data(), DType::f32, {3, 0, 8}}, {INT64_MIN, 0, 0})}}).ok());
    Weights column;
    column.add("weight", {1, 1});
    const Result<Linear> thin = Linear::create({.dim_in = 1, .dim_out = 1}, column.map);
    const Result<Plan> rows = thin->plan(1, 3);
    for (const int64_t stride : {0, 1, 9}) {
        const TensorView in = strided({x.data(), DType::f32, {1, 3, 1}}, {3, 1, stride}), out = strided({memory.data(), DType::f32, {1, 3, 1}}, {3, 1, stride});
        const Status status = rows->run({{"x", in}, {"out", out}});
        EXPECT_TRUE(status.ok()) << stride << ": " << status.message();
    }
}

TEST_F(LinearRun, TheCpuHasOneIndex) {
    const auto on = [](TensorView view, int type, int index) {
        view.device = {static_cast<DeviceType>(type), index};
        return view;
    };
    PlanOptions options;
    for (const int index : {0, -1}) {
        options.device.index = index;
        const Result<Plan> made = layer->plan(2, 3, options);
        ASSERT_TRUE(made.ok()) << made.status().message();
        EXPECT_EQ(made->device(), Device{});
        EXPECT_EQ(made->device().index, 0);
        for (const int given : {0, -1}) {
            EXPECT_TRUE(made->run({{"x", on(input(), 1, given)}, {"out", on(output(), 1, -1)}}).ok());
        }
        EXPECT_TRUE(describe_device(options.device).ok());
    }
    memory.assign(memory.size(), -7);
    for (const int index : {1, -2, 77}) {
        options.device.index = index;
        const std::string name = "cpu:" + std::to_string(index);
        EXPECT_TRUE(contains(layer->plan(2, 3, options).status().message(), name));
        EXPECT_TRUE(contains(describe_device(options.device).status().message(), name));
        EXPECT_TRUE(contains(refusal(on(input(), 1, index), output()), "its device is " + name + ", not cpu"));
    }
    const std::pair<int, const char *> foreign[] = {{3, "pinned host memory (cuda_host:0)"}, {13, "managed memory (cuda_managed:0)"}, {10, "rocm"}, {99, "DLPack device type 99"}, {2, "cuda:0"}};
    for (const auto &[type, name] : foreign) {
        EXPECT_TRUE(contains(refusal(on(input(), type, 0), output()), name)) << type;
        options.device = {static_cast<DeviceType>(type), 0};
        if (type != 2) {
            const Status status = layer->plan(2, 3, options).status();
            EXPECT_EQ(status.code(), Code::unsupported);
            EXPECT_TRUE(contains(status.message(), name)) << status.message();
            EXPECT_TRUE(contains(describe_device(options.device).status().message(), name));
        }
    }
    options.device = {DeviceType::cuda, -1};
    EXPECT_FALSE(layer->plan(2, 3, options).ok());
}

TEST_F(LinearRun, WeightsAreCheckedLikeArguments) {
    const auto refused = [&](const TensorView &view) {
        const Status status = Linear::create({.dim_in = 4, .dim_out = 8}, {{"weight", view}}).status();
        EXPECT_EQ(status.code(), Code::invalid_argument);
        EXPECT_TRUE(contains(status.message(), "weight weight: ")) << status.message();
        return status.message();
    };
    const TensorView good = weights.map["weight"];
    EXPECT_TRUE(contains(refused({static_cast<void *>(nullptr), DType::f32, {8, 4}}), "null"));
    EXPECT_TRUE(contains(refused({static_cast<std::byte *>(good.data) + 1, DType::f32, {8, 4}}), "not aligned to 4 bytes"));
    EXPECT_TRUE(contains(refused({good.data, DType::f64, {8, 4}}), "its dtype is f64, not f32, bf16 or f16"));
    EXPECT_TRUE(contains(refused({good.data, DType::f32, {8, 4}, {DeviceType::cuda, 0}}), "its device is cuda:0, not cpu"));
    EXPECT_TRUE(contains(refused({good.data, DType::f32, {4, 8}}), "its axis 0 is 4, not 8"));
    EXPECT_TRUE(contains(refused(strided(good, {-4, 1})), "negative"));
    EXPECT_TRUE(contains(refused(strided(good, {INT64_MAX / 4, 1})), "beyond any memory"));
    EXPECT_TRUE(contains(refused(strided(good, {INT64_MAX, 1})), "beyond any memory"));
    TensorView broken = good;
    for (const int rank : {-1, 7, 1000}) {
        broken.rank = rank;
        EXPECT_TRUE(contains(refused(broken), "its rank is " + std::to_string(rank)));
    }
    // Transposed and repeated ones are read as they say.
    std::vector<float> turned(32), wanted = expected();
    for (int row = 0; row < 8; row++) {
        for (int column = 0; column < 4; column++) {
            turned[column * 8 + row] = static_cast<const float *>(good.data)[row * 4 + column];
        }
    }
    const Result<Linear> same = Linear::create({.dim_in = 4, .dim_out = 8}, {{"weight", strided({turned.data(), DType::f32, {8, 4}}, {1, 8})}});
    ASSERT_TRUE(same.ok()) << same.status().message();
    std::vector<float> out(48);
    ASSERT_TRUE(same->plan(2, 3)->run({{"x", input()}, {"out", TensorView(out.data(), DType::f32, {2, 3, 8})}}).ok());
    EXPECT_EQ(out, wanted);
}

// Routes are judged before anything is written, whichever of two sides is wrong.
TEST(ImposedRoutes, AreCheckedBeforeTheFirstWrite) {
    for (const AnyLayer &layer : every_layer()) {
        if (layer.name != "mixture_imposed" && layer.name != "router_imposed") {
            continue;
        }
        const Result<Plan> plan = layer.make({});
        ASSERT_TRUE(plan.ok()) << plan.status().message();
        for (const char *name : {"imposed_queries", "imposed_key_values", "imposed_indices"}) {
            if (std::none_of(plan->arguments().begin(), plan->arguments().end(), [&](const auto &argument) { return argument.name == name; })) {
                continue;
            }
            for (const int64_t wrong : {INT64_MIN, int64_t{-1}, int64_t{41}, int64_t{1} << 32, INT64_MAX, int64_t{0}}) {  // 0 is there already
                AnyArguments arguments(*plan);
                const TensorView routes = arguments[name];
                static_cast<int64_t *>(routes.data)[routes.elements() - 2] = wrong;
                arguments.fill_outputs(0xab);
                const Status status = arguments.run(0);
                EXPECT_EQ(status.code(), Code::invalid_argument) << name << " " << wrong;
                EXPECT_TRUE(contains(status.message(), wrong == 0 ? "occurs twice" : "imposed index " + std::to_string(wrong))) << status.message();
                const std::vector<std::byte> outputs = arguments.outputs();
                EXPECT_TRUE(std::all_of(outputs.begin(), outputs.end(), [](std::byte byte) { return byte == std::byte{0xab}; })) << name << ": outputs were written";
            }
        }
    }
}

TEST(ImposedRoutes, NeedSomethingToRoute) {
    Weights tokens;
    tokens.add("routing_token", {1, 8});
    CoordinateDescentRouter::Config config;
    config.dim = 8;
    const Result<CoordinateDescentRouter> router = CoordinateDescentRouter::create(config, tokens.map);
    ASSERT_TRUE(router.ok());
    EXPECT_TRUE(contains(router->plan({.batch = 1, .length = 5, .num_tokens = 5, .impose = true}).status().message(), "5 positions with 5 routed are not routed"));
}

TEST(ForcedRows, MustActInThePlan) {
    const auto found = std::find_if(every_layer().begin(), every_layer().end(), [](const AnyLayer &any) { return any.name == "linear"; });
    PlanOptions options;
    const auto row_of = [](std::string_view op) {
        const auto rows = built_rows();
        return std::string(std::find_if(rows.begin(), rows.end(), [&](const Row &row) { return row.op == op && row.schedule == "reference" && (row.dtype == "f32" || row.dtype == "any"); })->name);
    };
    options.rows = {row_of("attention")};
    const Status idle = found->make(options).status();
    EXPECT_EQ(idle.code(), Code::unsupported);
    EXPECT_TRUE(contains(idle.message(), options.rows[0]) && contains(idle.message(), "no step of this plan")) << idle.message();
    options.rows = {row_of("project")};
    const Result<Plan> forced = found->make(options);
    ASSERT_TRUE(forced.ok()) << forced.status().message();
    EXPECT_TRUE(std::any_of(forced->steps().begin(), forced->steps().end(), [&](const Plan::Step &step) { return step.row == options.rows[0] && step.reason == "forced"; }));
    options.rows.push_back(options.rows[0]);
    EXPECT_TRUE(contains(found->make(options).status().message(), "is the second that is forced for project"));
    options.rows = {"attention__nobody"};
    EXPECT_EQ(found->make(options).status().code(), Code::not_found);
    options.rows.clear();
    for (const int threads : {-1, 257, INT32_MAX}) {
        options.threads = threads;
        EXPECT_TRUE(contains(found->make(options).status().message(), "must be 0 (one a core) to 256"));
    }
}

}  // namespace
}  // namespace moa::tests
