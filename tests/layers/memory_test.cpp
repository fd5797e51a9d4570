#include "tests/failing_memory.h"

#include "tests/layers/any_arguments.h"
#include "tests/layers/every_layer.h"

#include <filesystem>
#include <gtest/gtest.h>
#include <unistd.h>

// Memory that runs out anywhere comes back as a Status, loses nothing and leaves the process usable; and what is refused for its size
// is refused before anything is allocated for it.
namespace moa::tests {
namespace {

using memory::walk;

// Of a call that fails with `expected` when there is memory. Copies no text, which memory may be short for.
Status outcome(const Status &status, Code expected) {
    return status.code() == Code::out_of_memory ? Status(Code::out_of_memory, "none") : (status.code() == expected ? Status() : Status(Code::internal, "another"));
}

class MemoryRunsOut : public testing::TestWithParam<size_t> {};

TEST_P(MemoryRunsOut, WhileALayerIsMadeAndPlanned) {
    const AnyLayer &layer = every_layer()[GetParam()];
    ASSERT_TRUE(layer.make({}).ok());  // what a process has once is there
    walk(layer.name, [&] { return layer.make({}).status(); });
}

TEST_P(MemoryRunsOut, WhileAPlanRuns) {
    const Result<Plan> plan = every_layer()[GetParam()].make({});
    ASSERT_TRUE(plan.ok()) << plan.status().message();
    AnyArguments arguments(*plan);
    ASSERT_TRUE(plan->run(arguments.tensors()).ok());
    walk("run", [&] { return plan->run(arguments.tensors()); });
    walk("its refusal", [&] {
        const NamedTensor wrong[] = {{"a name that no plan has, and that is too long for a string without memory", {}}};
        return outcome(plan->run(wrong), Code::invalid_argument);
    });
    EXPECT_TRUE(arguments.run(0xff).ok());
}

INSTANTIATE_TEST_SUITE_P(Layers, MemoryRunsOut, testing::Range(size_t{0}, every_layer().size()), [](const auto &tested) { return every_layer()[tested.param].name; });

TEST(MemoryRunsOut, WhileFilesAreReadAndWritten) {
    Weights weights;
    weights.add("a tensor with a name that is longer than a short string", {3, 5});
    weights.add("b", {7});
    const std::string path = std::filesystem::temp_directory_path() / ("moa_memory_test_" + std::to_string(::getpid()) + ".safetensors");
    const Metadata metadata{{"a key that is longer than a short string", "value"}};
    const std::string nowhere = path + " of a name that is longer than a short string";
    walk("write_safetensors", [&] { return write_safetensors(path, weights.map, metadata); });
    walk("SafeTensors::open", [&] { return SafeTensors::open(path).status(); });
    walk("what is no file", [&] {
        const Result<SafeTensors> opened = SafeTensors::open(nowhere);
        return outcome(opened.status(), Code::not_found);
    });
    const Result<SafeTensors> file = SafeTensors::open(path);
    ASSERT_TRUE(file.ok());
    walk("SafeTensors::tensors", [&] {
        const TensorMap found = file->tensors("a tensor");
        return found.size() == 1 ? Status() : Status(Code::out_of_memory, "none");
    });
    std::filesystem::remove(path);
}

TEST(MemoryRunsOut, WhileDevicesAreAskedAndTextIsMade) {
    ASSERT_TRUE(describe_device({}).ok());
    (void)cuda::device_count();
    walk("describe_device", [] { return describe_device({}).status(); });
    const auto refused = [](const Status &status) { return outcome(status, status.code()); };
    const Device absent{DeviceType::cuda, 77}, pinned{static_cast<DeviceType>(3), 0};
    walk("DeviceBuffer::allocate", [&] { return refused(cuda::DeviceBuffer::allocate(absent, 16).status()); });
    walk("Stream::create", [&] { return refused(cuda::Stream::create(absent).status()); });
    walk("synchronize", [&] { return refused(cuda::synchronize(absent)); });
    const Problem problem("project", DType::f32, {{"rows", 7}, {"dim_in", 16}, {"dim_out", 16}, {"head_dim", 16}, {"heads", 1}, {"plain", 1}, {"rotary", 0}, {"activation", 0}, {"aligned", 1}, {"tiles", 1}});
    const DeviceDescription host = describe_host();
    walk("select", [&] { return select(problem, host, built_rows()).status(); });
    const TensorView view(static_cast<void *>(nullptr), DType::f32, {1, 2, 3, 4, 5, 6});
    const auto whole = [](const std::string &text) { return text == "(no memory)" ? Status(Code::out_of_memory, "none") : Status(); };
    walk("TensorView::describe", [&] { return whole(view.describe()); });
    walk("Problem::describe", [&] { return whole(problem.describe()); });
    walk("name_of", [&] { return whole(name_of(pinned)); });
}

TEST(MemoryRunsOut, AndTheMessageSaysWhatWasWanted) {
    Weights weights;
    weights.add("weight", {600, 700});
    const std::string wanted = "1680000 bytes of weight weight";
    int64_t said = 0;
    bool failed = true;
    for (int64_t n = 1; failed; n++) {
        memory::fail_at(n, memory::Fails::once);
        const Status status = Linear::create({.dim_in = 700, .dim_out = 600}, weights.map).status();
        failed = memory::succeed();
        said += status.message().find(wanted) != std::string::npos ? 1 : 0;
    }
    EXPECT_EQ(said, 1) << "of one allocation";
}

}  // namespace
}  // namespace moa::tests
