#include "tests/layers/random_layers.h"

#include <cstdio>
#include <cstring>

// A service that is constructed before the library is first used, and runs a last batch when it is destroyed, after whatever
// the library would destroy.
namespace {

constexpr int64_t kRows = 4096, kDim = 64;

struct Service {
    std::vector<float> x = moa::tests::normal_values(kRows * kDim, 1), first = x, last = x;
    moa::tests::Weights *weights = nullptr;
    moa::Plan *plan = nullptr;

    moa::Status run(std::vector<float> &out) const {
        return plan->run({{"x", {x.data(), moa::DType::f32, {1, kRows, kDim}}}, {"out", {out.data(), moa::DType::f32, {1, kRows, kDim}}}});
    }
    moa::Result<moa::Plan> make(int threads) {
        const moa::Result<moa::Linear> linear = moa::Linear::create({.dim_in = kDim, .dim_out = kDim}, weights->map);
        return linear.ok() ? linear->plan(1, kRows, {.threads = threads}) : moa::Result<moa::Plan>(linear.status());
    }
    ~Service() {
        moa::Status status = run(last);
        const bool same = std::memcmp(first.data(), last.data(), first.size() * sizeof(float)) == 0;
        // A layer and a plan made now work as well: describing the host, packing, naming rows.
        if (const moa::Result<moa::Plan> late = make(3); status.ok()) {
            status = late.ok() ? late->run({{"x", {x.data(), moa::DType::f32, {1, kRows, kDim}}}, {"out", {last.data(), moa::DType::f32, {1, kRows, kDim}}}}) : late.status();
        }
        std::printf("run in a destructor: %s\n", !status.ok() ? status.message().c_str() : (same ? "ok" : "other results"));
        std::fflush(stdout);
    }
};

Service service;

}  // namespace

int main() {
    service.weights = new moa::tests::Weights;
    service.weights->add("weight", {kDim, kDim});
    const moa::Result<moa::Plan> plan = service.make(3);
    if (!plan.ok()) {
        std::printf("%s\n", plan.status().message().c_str());
        return 1;
    }
    service.plan = new moa::Plan(*plan);
    return service.run(service.first).ok() ? 0 : 1;
}
