#include "moa/feed_forward.h"

#include <HalideRuntime.h>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <vector>

// Two users of Halide in one program: libmoa, and a kernel with the stock runtime. Handlers that the program sets in the
// stock runtime must serve the kernel and never libmoa.
extern "C" int neighbour(halide_buffer_t *x, halide_buffer_t *result);

namespace {

std::atomic<int> allocations{0}, loops{0}, errors{0};

void *count_malloc(void *, size_t size) {
    allocations++;
    return std::aligned_alloc(128, (size + 127) / 128 * 128);
}

void count_free(void *, void *memory) {
    std::free(memory);
}

int count_par_for(void *context, halide_task_t task, int min, int size, uint8_t *closure) {
    loops++;
    return halide_default_do_par_for(context, task, min, size, closure);
}

void count_error(void *, const char *) {
    errors++;
}

halide_buffer_t buffer(std::vector<float> &values, halide_dimension_t &dimension) {
    dimension = halide_dimension_t(0, static_cast<int>(values.size()), 1);
    halide_buffer_t result{};
    result.host = reinterpret_cast<uint8_t *>(values.data());
    result.type = halide_type_of<float>();
    result.dimensions = 1;
    result.dim = &dimension;
    return result;
}

bool neighbour_works() {
    std::vector<float> x(1000, 3), result(1000, 0);
    halide_dimension_t x_dimension, result_dimension;
    halide_buffer_t x_buffer = buffer(x, x_dimension), result_buffer = buffer(result, result_dimension);
    if (neighbour(&x_buffer, &result_buffer) != 0 || result[999] != 7) {
        return false;
    }
    x_dimension.extent = 10;
    return neighbour(&x_buffer, &result_buffer) != 0;  // reported to count_error
}

moa::Status layer_works() {
    constexpr int64_t kRows = 100, kDim = 64;
    std::vector<float> weight(kDim * kDim, 1), x(kRows * kDim, 1), out(kRows * kDim, 0);
    moa::TensorMap weights;
    weights["weight"] = moa::TensorView(weight.data(), moa::DType::f32, {kDim, kDim});
    const auto linear = moa::Linear::create({.dim_in = kDim, .dim_out = kDim}, weights);
    if (!linear) {
        return linear.status();
    }
    const auto plan = linear->plan(1, kRows);
    if (!plan) {
        return plan.status();
    }
    moa::Status status = plan->run({{"x", moa::TensorView(x.data(), moa::DType::f32, {1, kRows, kDim})},
                                    {"out", moa::TensorView(out.data(), moa::DType::f32, {1, kRows, kDim})}});
    if (status && out[0] != kDim) {
        return {moa::Code::internal, "wrong result"};
    }
    return status;
}

int fail(const char *what) {
    std::fprintf(stderr, "%s (%d allocations, %d loops, %d errors)\n", what, allocations.load(), loops.load(), errors.load());
    return 1;
}

}  // namespace

int main() {
    halide_set_custom_malloc(count_malloc);
    halide_set_custom_free(count_free);
    halide_set_custom_do_par_for(count_par_for);
    halide_set_error_handler(count_error);

    if (const moa::Status status = layer_works(); !status) {
        return fail(status.message().c_str());
    }
    if (allocations + loops + errors != 0) {
        return fail("libmoa used the program's Halide runtime");
    }
    if (!neighbour_works()) {
        return fail("the program's own kernel does not work");
    }
    if (allocations == 0 || loops == 0 || errors != 1) {
        return fail("the program's handlers were not called for its own kernel");
    }
    if (const moa::Status status = layer_works(); !status) {
        return fail(status.message().c_str());
    }
    return 0;
}
