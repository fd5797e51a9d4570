#include "tests/ops/row_tests.h"

#include "tests/ops/reached_rows.h"
#include "workloads/gpu.h"
#include "workloads/workload.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <memory>
#include <new>
#include <span>
#include <string>
#include <utility>
#include <vector>

// Every row that was built times every shape of its operation that it accepts, which must be one at least: right within the derived
// tolerance, nothing written outside of the outputs, and the same bits from run to run and for 1, 2 and 5
// threads.
namespace moa::workloads {

namespace {

constexpr Intent kTested[] = {Intent::smoke, Intent::regular, Intent::irregular, Intent::options, Intent::edges, Intent::not_finite};
constexpr Intent kBrief[] = {Intent::smoke, Intent::irregular, Intent::edges};

// The instance of the latest case: rows of an operation meet the same tensors, and its reference runs once.
Result<Instance *> instance_of(const Workload &workload, const Case &wanted) {
    static Case cached;
    static std::unique_ptr<Instance> instance;
    if (!instance || cached.op != wanted.op || cached.dtype != wanted.dtype || cached.precision != wanted.precision || cached.shape != wanted.shape) {
        auto made = workload.make(wanted);
        if (!made) {
            return made.status();
        }
        instance = std::move(*made);
        cached = wanted;
    }
    return instance.get();
}

// The device whose rows for GPUs are tested.
Device test_device() {
    const char *name = std::getenv("MOA_TEST_DEVICE");
    const std::string_view device = name != nullptr ? name : "cuda:0";
    return {DeviceType::cuda, device.starts_with("cuda:") ? std::atoi(device.data() + 5) : 0};
}

Result<Choice> select_row(const Row &row, const Problem &problem, const DeviceDescription &device) {
    const std::string name(row.name);
    return select(problem, device, built_rows(), {&name, 1});
}

struct Free {
    void operator()(std::byte *memory) const {
        ::operator delete[](memory, std::align_val_t(64));
    }
};

}  // namespace

bool accepts(const Row &row, const Problem &problem) {
    DeviceDescription everything = describe_host();
    everything.device.type = row.device;
    everything.features = ~CpuFeatures{0};
    everything.shared_bytes = std::numeric_limits<int>::max();
    everything.capability = row.exact ? row.capability : std::numeric_limits<int>::max();
    return select_row(row, problem, everything).ok();
}

Status run_with(Instance &instance, const Row &row, int threads) {
    const size_t bytes = static_cast<size_t>(threads) * instance.scratch_bytes(row);
    const std::unique_ptr<std::byte[], Free> scratch(new (std::align_val_t(64)) std::byte[bytes]);
    Run run(threads, {scratch.get(), bytes});
    instance.poison();
    return instance.run(run, row);
}

namespace {

class RowTest : public testing::Test {
public:
    RowTest(const Workload &workload, Case wanted, const Row &row, bool once)
        : workload_(workload), case_(std::move(wanted)), row_(row), runs_(once ? 1 : 3) {
    }

    void TestBody() override {
        if (row_.device == DeviceType::cuda) {
            on_gpu();
            return;
        }
        const DeviceDescription host = describe_host();
        if ((row_.required & ~host.features) != 0) {
            GTEST_SKIP() << host.name << " lacks a feature of the row's target " << row_.target;
        }
        const Result<Instance *> made = instance_of(workload_, case_);
        ASSERT_TRUE(made) << made.status().message();
        Instance &instance = **made;
        const Status prepared = instance.prepare(row_);
        ASSERT_TRUE(prepared) << prepared.message();

        const Status first = run_with(instance, row_, 1);
        ASSERT_TRUE(first) << first.message() << "\n  " << replay(case_, row_, 1);
        const Report report = instance.compare();
        ASSERT_TRUE(report.ok()) << instance.spoiled() << "\n"
                                 << report.describe() << "\n  " << replay(case_, row_, 1);
        const std::vector<std::byte> bytes = instance.output_bytes();
        for (const int threads : {1, 2, 5}) {
            const Status again = run_with(instance, row_, threads);
            ASSERT_TRUE(again) << again.message() << "\n  " << replay(case_, row_, threads);
            EXPECT_TRUE(instance.output_bytes() == bytes)
                << "other bits than the first run's\n  " << replay(case_, row_, threads);
        }
    }

private:
    void on_gpu() {
        const Result<DeviceDescription> gpu = describe_device(test_device());
        if (!gpu.ok()) {
            GTEST_SKIP() << gpu.status().message();
        }
        const Result<Instance *> made = instance_of(workload_, case_);
        ASSERT_TRUE(made) << made.status().message();
        Instance &instance = **made;
        ASSERT_TRUE(accepts(row_, instance.problem())) << "the row does not take the case that it was to be tested by: " << case_.shape;
        const Result<Choice> choice = select_row(row_, instance.problem(), *gpu);
        if (!choice.ok()) {  // for what the GPU lacks: of the sizes, nothing is left to refuse
            GTEST_SKIP() << choice.status().message();
        }
        const Status prepared = instance.prepare(row_);
        ASSERT_TRUE(prepared) << prepared.message();
        const Result<GpuInstance> copies = GpuInstance::make(test_device(), instance, row_);
        ASSERT_TRUE(copies) << copies.status().message() << "\n  " << replay(case_, row_, 1);
        std::vector<std::byte> bytes;
        for (int run = 0; run < runs_; run++) {
            instance.poison();
            const Status status = copies->run();
            ASSERT_TRUE(status) << status.message() << "\n  " << replay(case_, row_, 1);
            if (run == 0) {
                const Report report = instance.compare();
                ASSERT_TRUE(report.ok()) << instance.spoiled() << "\n"
                                         << report.describe() << "\n  " << replay(case_, row_, 1);
                bytes = instance.output_bytes();
            }
            EXPECT_TRUE(instance.output_bytes() == bytes) << "other bits than the first run's\n  " << replay(case_, row_, 1);
        }
    }

    const Workload &workload_;
    Case case_;
    const Row &row_;
    int runs_;  // on a GPU
};

// Every case of a dtype that some row was built for must be taken by one of them.
class AcceptedTest : public testing::Test {
public:
    AcceptedTest(Case orphan, DeviceType device)
        : case_(std::move(orphan)), device_(device) {
    }
    void TestBody() override {
        FAIL() << "no row of " << case_.op << (device_ == DeviceType::cpu ? " for the cpu" : " for GPUs") << " accepts " << case_.shape << " in "
               << moa::name_of(case_.dtype);
    }

private:
    Case case_;
    DeviceType device_;
};

// Of one device: rows of the case's dtype and precision that accept its sizes.
void register_case(const Workload &workload, const Case &tested, DeviceType device, bool once, bool brief, ReachedRows &reached) {
    std::vector<const Row *> rows;
    for (const Row &row : built_rows()) {
        if (row.op == tested.op && row.device == device && dtype_of(row) == tested.dtype && precision_of(row) == tested.precision) {
            rows.push_back(&row);
        }
    }
    if (rows.empty()) {
        return;
    }
    const std::string dtype(tested.precision == Precision::tf32 ? "tf32" : moa::name_of(tested.dtype));
    const std::string suite = tested.op + "_" + dtype + (device == DeviceType::cuda ? "_gpu" : "");
    const Result<Instance *> made = instance_of(workload, tested);
    bool taken = false;
    for (const Row *row : rows) {
        if (made.ok() && accepts(*row, (*made)->problem())) {
            taken = true;
            reached.add(*row, brief);
            testing::RegisterTest(suite.c_str(), (tested.shape + "/" + std::string(row->name)).c_str(), nullptr, nullptr, __FILE__, __LINE__,
                                  [&workload, tested, row, once]() -> testing::Test * { return new RowTest(workload, tested, *row, once); });
        }
    }
    // Exact rows take what rows of tf32 do not. Heads wider than this are the cpu's.
    constexpr int64_t kWidestHeadOnGpus = 256;
    const auto too_wide = [](const Problem &problem) {
        const int64_t *head_dim = problem.find("head_dim");
        return head_dim != nullptr && *head_dim > kWidestHeadOnGpus;
    };
    const bool of_the_cpu = device == DeviceType::cuda && made.ok() && too_wide((*made)->problem());
    if (!taken && !of_the_cpu && tested.precision == Precision::exact) {
        testing::RegisterTest((suite + "_accepted").c_str(), tested.shape.c_str(), nullptr, nullptr, __FILE__, __LINE__,
                              [tested, device]() -> testing::Test * { return new AcceptedTest(tested, device); });
    }
}

}  // namespace

std::vector<std::string_view> tested_operations() {
    std::vector<std::string_view> names;
    for (const Workload *workload : all_workloads()) {
        names.push_back(workload->name());
    }
    return names;
}

void register_row_tests(const RowTests &wanted) {
    const std::span<const Intent> intents = wanted.brief ? std::span<const Intent>(kBrief) : std::span<const Intent>(kTested);
    ReachedRows reached;
    for (const Workload *workload : all_workloads()) {
        if (!wanted.op.empty() && workload->name() != wanted.op) {
            continue;
        }
        for (const DType dtype : workload->dtypes()) {
            for (const Intent intent : intents) {
                const bool brief = std::find(std::begin(kBrief), std::end(kBrief), intent) != std::end(kBrief);
                for (const std::string &shape : workload->shapes(intent)) {
                    const Case exact{.op = std::string(workload->name()), .dtype = dtype, .shape = shape};
                    if (!wanted.gpus) {
                        register_case(*workload, exact, DeviceType::cpu, wanted.brief, brief, reached);
                    }
                    register_case(*workload, exact, DeviceType::cuda, wanted.brief, brief, reached);
                    if (dtype == DType::f32) {
                        Case tf32 = exact;
                        tf32.precision = Precision::tf32;
                        register_case(*workload, tf32, DeviceType::cuda, wanted.brief, brief, reached);
                    }
                }
            }
        }
        reached.register_tests(workload->name(), wanted.gpus);
    }
}

}  // namespace moa::workloads
