#include "moa/attention.h"
#include "moa/coordinate_descent_router.h"
#include "moa/feed_forward.h"
#include "moa/local_attention.h"
#include "moa/mixture_of_attention.h"
#include "moa/rows.h"
#include "moa/version.h"
#include "moa/weights.h"

#include <cmath>
#include <cstdio>
#include <vector>

// What a user of the installed package does: prepare a layer, plan it, run it. With x = 1 and weights of 1 the product
// is the number of input channels.
int main() {
    constexpr int64_t kRows = 3, kDimIn = 20, kDimOut = 7;
    std::vector<float> weight(kDimOut * kDimIn, 1), x(kRows * kDimIn, 1), out(kRows * kDimOut, 0);
    moa::TensorMap weights;
    weights["weight"] = moa::TensorView(weight.data(), moa::DType::f32, {kDimOut, kDimIn});

    const auto linear = moa::Linear::create({.dim_in = kDimIn, .dim_out = kDimOut}, weights);
    if (!linear) {
        std::fprintf(stderr, "create: %s\n", linear.status().message().c_str());
        return 1;
    }
    const auto plan = linear->plan(1, kRows);
    if (!plan) {
        std::fprintf(stderr, "plan: %s\n", plan.status().message().c_str());
        return 1;
    }
    const moa::Status status = plan->run({{"x", moa::TensorView(x.data(), moa::DType::f32, {1, kRows, kDimIn})},
                                          {"out", moa::TensorView(out.data(), moa::DType::f32, {1, kRows, kDimOut})}});
    if (!status) {
        std::fprintf(stderr, "run: %s\n", status.message().c_str());
        return 1;
    }
    for (const float value : out) {
        if (std::fabs(value - kDimIn) > 1e-4F) {
            std::fprintf(stderr, "got %g, expected %d\n", value, static_cast<int>(kDimIn));
            return 1;
        }
    }
    std::printf("moa %s, %zu rows, Linear ran on %s\n", MOA_VERSION, moa::built_rows().size(), plan->steps().back().row.c_str());
    return 0;
}
