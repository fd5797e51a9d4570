#include "tests/ops/row_tests.h"

#include "workloads/workload.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <new>
#include <string>
#include <utility>
#include <vector>

// Every row that was built times every shape of its operation that it accepts: right within the derived
// tolerance, nothing written outside of the outputs, and the same bits from run to run and for 1, 2 and 5
// threads.
namespace moa::workloads {

namespace {

constexpr Intent kTested[] = {Intent::smoke, Intent::regular, Intent::irregular, Intent::options};

// The instance of the latest case: rows of an operation meet the same tensors, and its reference runs once.
Result<Instance *> instance_of(const Workload &workload, const Case &wanted) {
    static Case cached;
    static std::unique_ptr<Instance> instance;
    if (!instance || cached.op != wanted.op || cached.dtype != wanted.dtype || cached.shape != wanted.shape) {
        auto made = workload.make(wanted);
        if (!made) {
            return made.status();
        }
        instance = std::move(*made);
        cached = wanted;
    }
    return instance.get();
}

struct Free {
    void operator()(std::byte *memory) const {
        ::operator delete[](memory, std::align_val_t(64));
    }
};

Status run_with(Instance &instance, const Row &row, int threads) {
    const size_t bytes = static_cast<size_t>(threads) * instance.scratch_bytes(row);
    const std::unique_ptr<std::byte[], Free> scratch(new (std::align_val_t(64)) std::byte[bytes]);
    Run run(threads, {scratch.get(), bytes});
    instance.poison();
    return instance.run(run, row);
}

class RowTest : public testing::Test {
public:
    RowTest(const Workload &workload, Case wanted, const Row &row)
        : workload_(workload), case_(std::move(wanted)), row_(row) {
    }

    void TestBody() override {
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
        ASSERT_TRUE(report.ok()) << report.describe() << "\n  " << replay(case_, row_, 1);
        const std::vector<std::byte> bytes = instance.output_bytes();
        for (const int threads : {1, 2, 5}) {
            const Status again = run_with(instance, row_, threads);
            ASSERT_TRUE(again) << again.message() << "\n  " << replay(case_, row_, threads);
            EXPECT_TRUE(instance.output_bytes() == bytes)
                << "other bits than the first run's\n  " << replay(case_, row_, threads);
        }
    }

private:
    const Workload &workload_;
    Case case_;
    const Row &row_;
};

// What a row says of a case on a machine that has everything, so that only sizes count.
bool accepts(const Row &row, const Problem &problem) {
    DeviceDescription everything = describe_host();
    everything.features = ~CpuFeatures{0};
    const std::string name(row.name);
    return select(problem, everything, built_rows(), {&name, 1}).ok();
}

// Every case of a dtype that some row was built for must be taken by one of them.
class AcceptedTest : public testing::Test {
public:
    explicit AcceptedTest(Case orphan)
        : case_(std::move(orphan)) {
    }
    void TestBody() override {
        FAIL() << "no row of " << case_.op << " accepts " << case_.shape << " in "
               << moa::name_of(case_.dtype);
    }

private:
    Case case_;
};

void register_case(const Workload &workload, const Case &tested, std::span<const Row> rows) {
    const std::string suite = tested.op + "_" + std::string(moa::name_of(tested.dtype));
    const Result<Instance *> made = instance_of(workload, tested);
    const bool built = std::any_of(rows.begin(), rows.end(), [&](const Row &row) {
        return row.op == tested.op && dtype_of(row) == tested.dtype;
    });
    bool taken = false;
    for (const Row &row : rows) {
        if (row.op == tested.op && dtype_of(row) == tested.dtype && made.ok() &&
            accepts(row, (*made)->problem())) {
            taken = true;
            testing::RegisterTest(suite.c_str(), (tested.shape + "/" + std::string(row.name)).c_str(),
                                  nullptr, nullptr, __FILE__, __LINE__,
                                  [&workload, tested, &row]() -> testing::Test * {
                                      return new RowTest(workload, tested, row);
                                  });
        }
    }
    if (built && !taken) {
        testing::RegisterTest((suite + "_accepted").c_str(), tested.shape.c_str(), nullptr, nullptr, __FILE__,
                              __LINE__, [tested]() -> testing::Test * { return new AcceptedTest(tested); });
    }
}

}  // namespace

void register_row_tests(std::string_view op) {
    for (const Workload *workload : all_workloads()) {
        if (!op.empty() && workload->name() != op) {
            continue;
        }
        for (const DType dtype : workload->dtypes()) {
            for (const Intent intent : kTested) {
                for (const std::string &shape : workload->shapes(intent)) {
                    register_case(*workload,
                                  {.op = std::string(workload->name()), .dtype = dtype, .shape = shape},
                                  built_rows());
                }
            }
        }
    }
}

}  // namespace moa::workloads
