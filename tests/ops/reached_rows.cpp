#include "tests/ops/reached_rows.h"

#include <gtest/gtest.h>

#include <string>

namespace moa::workloads {

namespace {

// A row that no shape of its operation's workload reaches is tested by nobody, on no machine.
class ReachedTest : public testing::Test {
public:
    ReachedTest(const Row &row, ReachedRows::Count count)
        : row_(row), count_(count) {
    }
    void TestBody() override {
        EXPECT_GT(count_.shapes, 0) << "no shape of workloads/" << row_.op << ".cpp is accepted by " << row_.name << "; it takes " << wanted();
        EXPECT_GT(count_.brief, 0) << "no shape that sanitizers watch (kBrief: smoke, irregular, edges) is accepted by " << row_.name << "; it takes " << wanted();
    }

private:
    std::string wanted() const {
        std::string text;
        for (const Parameter &parameter : row_.statics) {
            text += " " + std::string(parameter.name) + " " + std::to_string(parameter.value);
        }
        for (const Range &range : row_.accepts) {
            text += " " + std::string(range.name) + " " + std::to_string(range.low) + " to " + std::to_string(range.high);
        }
        return text.empty() ? "everything" : text.substr(1);
    }

    const Row &row_;
    ReachedRows::Count count_;
};

}  // namespace

void ReachedRows::add(const Row &row, bool brief) {
    Count &count = counts_[&row];
    count.shapes++;
    count.brief += brief ? 1 : 0;
}

void ReachedRows::register_tests(std::string_view op, bool gpus_only) const {
    for (const Row &row : built_rows()) {
        if (row.op != op || (gpus_only && row.device != DeviceType::cuda)) {
            continue;
        }
        const std::string suite = std::string(op) + "_reached" + (row.device == DeviceType::cuda ? "_gpu" : "");
        const auto found = counts_.find(&row);
        const Count count = found == counts_.end() ? Count{} : found->second;
        testing::RegisterTest(suite.c_str(), std::string(row.name).c_str(), nullptr, nullptr, __FILE__, __LINE__,
                              [&row, count]() -> testing::Test * { return new ReachedTest(row, count); });
    }
}

}  // namespace moa::workloads
