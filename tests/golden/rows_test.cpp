#include "tests/golden/golden_files.h"
#include "tests/test_device.h"

#include "moa/rows.h"

#include <algorithm>
#include <gtest/gtest.h>
#include <map>
#include <set>
#include <string>
#include <utility>

// The recorded cases with rows of every target that this machine can run, not only with those that it prefers.
namespace moa::tools {
namespace {

const std::vector<RecordedCase> &cases() {
    static const std::vector<RecordedCase> all = [] {
        std::vector<RecordedCase> opened;
        for (const std::string &path : golden_files()) {
            Result<RecordedCase> recorded = RecordedCase::open(path);
            EXPECT_TRUE(recorded.ok()) << recorded.status().message();
            opened.push_back(*std::move(recorded));
        }
        return opened;
    }();
    return all;
}

bool runs_here(const Row &row) {
    return row.device == tests::test_device().type && (row.required & ~describe_host().features) == 0;
}

PlanOptions with_row(const Row &row) {
    PlanOptions options;
    options.device = tests::test_device();
    options.rows = {std::string(row.name)};
    options.dtype = row.dtype == "bf16" ? DType::bf16 : (row.dtype == "f16" ? DType::f16 : DType::f32);
    options.precision = row.dtype == "tf32" ? Precision::tf32 : Precision::exact;
    return options;
}

std::set<std::string> rows_of_plans(const PlanOptions &options) {
    std::set<std::string> rows;
    for (const RecordedCase &recorded : cases()) {
        const Result<CaseLayer> layer = layer_of(recorded);
        const Result<Plan> plan = layer.ok() ? layer->plan(options, false) : Result<Plan>(layer.status());
        if (plan.ok()) {
            for (const Plan::Step &step : plan->steps()) {
                rows.insert(step.row);
            }
        }
    }
    return rows;
}

// Rows for the device's own capability; those for lesser ones are another device's first choice.
bool is_first_choice(const Row &row) {
    if (row.device == DeviceType::cpu) {
        return runs_here(row);
    }
    const Result<DeviceDescription> device = describe_device(tests::test_device());
    return row.device == tests::test_device().type && device.ok() && row.capability == device->capability;
}

// Rows that are specialised for a width of heads are what layers use most: recorded cases have that width, and what else it takes.
// Only plans are made: a driver that computes nothing will do. A layer has products that one row alone cannot compute all: where
// forcing the row fails, the plans that are made without force have it.
TEST(SpecialisedRows, AreInThePlanOfARecordedCase) {
    int specialised = 0;
    std::map<std::pair<DType, Precision>, std::set<std::string>> of_plans;
    for (const Row &row : built_rows()) {
        const auto is_width = [](const Parameter &parameter) { return parameter.name == "head_dim"; };
        if (!is_first_choice(row) || std::none_of(row.statics.begin(), row.statics.end(), is_width)) {
            continue;
        }
        specialised++;
        const std::string name(row.name);
        const PlanOptions forced = with_row(row);
        PlanOptions free = forced;
        free.rows.clear();
        const auto [unforced, is_new] = of_plans.try_emplace({free.dtype, free.precision});
        if (is_new) {
            unforced->second = rows_of_plans(free);
        }
        EXPECT_TRUE(unforced->second.count(name) > 0 || rows_of_plans(forced).count(name) > 0) << "no case in tests/golden has what " << name << " takes";
    }
    if (specialised == 0) {
        GTEST_SKIP() << "no row that is made for " << name_of(tests::test_device()) << " is for a width of heads";
    }
}

class EachRow : public testing::TestWithParam<const Row *> {};

// Cases whose problems the row does not accept, or all of them for sizes that no case has, are passed over.
TEST_P(EachRow, ReproducesWhatItAccepts) {
    const Row &row = *GetParam();
    if (!runs_here(row)) {
        GTEST_SKIP() << describe_host().name << " lacks a feature of target " << row.target << ", or the rows tested are another device's";
    }
    const PlanOptions options = with_row(row);
    if (!built_for(options.dtype, Precision::exact, row.device)) {
        GTEST_SKIP() << "no rows of f32 were built";
    }
    int used = 0;
    for (const RecordedCase &recorded : cases()) {
        const Result<CaseReport> report = verify_case(recorded, options);
        ASSERT_TRUE(report.ok()) << recorded.name << ": " << report.status().message();
        EXPECT_NE(report->verdict, Verdict::fail) << recorded.name << describe(*report) << "\nrow " << row.name;
        used += report->verdict == Verdict::pass && std::count(report->rows.begin(), report->rows.end(), row.name) > 0 ? 1 : 0;
    }
    RecordProperty("cases", used);
    if (used == 0) {
        GTEST_SKIP() << "no case has sizes that the row takes";
    }
}

std::vector<const Row *> all_rows() {
    std::vector<const Row *> rows;
    for (const Row &row : built_rows()) {
        rows.push_back(&row);
    }
    return rows;
}

INSTANTIATE_TEST_SUITE_P(Rows, EachRow, testing::ValuesIn(all_rows()), [](const auto &tested) { return test_name(std::string(tested.param->name)); });

const Row *find_row(std::string_view name) {
    const auto rows = built_rows();
    const auto found = std::find_if(rows.begin(), rows.end(), [&](const Row &row) { return row.name == name; });
    return found == rows.end() ? nullptr : &*found;
}

// Those rows whose operations the case has: plans refuse others.
std::vector<std::string> rows_that_act(const RecordedCase &recorded, const PlanOptions &options, const std::vector<std::string> &rows) {
    const Result<CaseReport> report = verify_case(recorded, options);
    EXPECT_TRUE(report.ok()) << recorded.name << ": " << report.status().message();
    std::vector<std::string> acting;
    for (const std::string &name : rows) {
        const auto same_op = [&](const std::string &used) { return find_row(used) != nullptr && find_row(used)->op == find_row(name)->op; };
        if (report.ok() && std::any_of(report->rows.begin(), report->rows.end(), same_op)) {
            acting.push_back(name);
        }
    }
    return acting;
}

// Reference rows take every problem: whole layers of nothing else.
TEST(ReferenceRows, ReproduceEveryCase) {
    if (tests::on_gpu()) {
        GTEST_SKIP() << "they are for the cpu";
    }
    for (const DType dtype : {DType::f32, DType::bf16}) {
        if (!built_for(dtype)) {
            continue;
        }
        PlanOptions options;
        options.device = tests::test_device();
        options.dtype = dtype;
        std::vector<std::string> reference;
        for (const Row &row : built_rows()) {
            // Selection has a row an order.
            if (row.schedule == "reference" && (row.dtype == "any" || row.dtype == name_of(dtype)) && row.statics.empty()) {
                reference.emplace_back(row.name);
            }
        }
        ASSERT_FALSE(reference.empty());
        for (const RecordedCase &recorded : cases()) {
            options.rows = {};
            options.rows = rows_that_act(recorded, options, reference);
            const Result<CaseReport> report = verify_case(recorded, options);
            ASSERT_TRUE(report.ok()) << recorded.name << ": " << report.status().message();
            EXPECT_EQ(report->verdict, Verdict::pass) << recorded.name << " " << name_of(dtype) << describe(*report);
        }
    }
}

}  // namespace
}  // namespace moa::tools
