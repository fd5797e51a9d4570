#include "runtime/thread_pool.h"
#include "tests/child.h"
#include "tests/layers/random_layers.h"
#include "workloads/workload.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <memory>
#include <new>
#include <pthread.h>
#include <string>
#include <sys/mman.h>

// The stack that runs take: of every row that this machine can run, and of whole layers.
namespace moa::tests {

namespace {

constexpr size_t kBytes = size_t{4} << 20;
constexpr unsigned char kPaint = 0xA5;

// Bytes of stack that a thread wrote to which called body().
size_t written_by(const std::function<void()> &body) {
    void *stack = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (stack == MAP_FAILED) {
        return kBytes;
    }
    std::memset(stack, kPaint, kBytes);
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstack(&attributes, stack, kBytes);
    pthread_t thread{};
    const auto call = [](void *b) -> void * {
        (*static_cast<const std::function<void()> *>(b))();
        return nullptr;
    };
    const bool made = pthread_create(&thread, &attributes, call, const_cast<std::function<void()> *>(&body)) == 0 && pthread_join(thread, nullptr) == 0;
    const auto *begin = static_cast<const unsigned char *>(stack), *end = begin + kBytes;
    const auto unwritten = static_cast<size_t>(std::find_if(begin, end, [](unsigned char byte) { return byte != kPaint; }) - begin);
    pthread_attr_destroy(&attributes);
    munmap(stack, kBytes);
    return made ? kBytes - unwritten : kBytes;
}

// Without what the system keeps there for every thread.
size_t stack_of(const std::function<void()> &body) {
    return written_by(body) - written_by([] {});
}

TEST(Stack, OfEveryRow) {
    if (kSanitized) {
        GTEST_SKIP() << "sanitizers widen frames";
    }
    size_t most = 0;
    std::string of;
    int rows = 0;
    for (const Row &row : built_rows()) {
        const workloads::Workload *workload = workloads::find_workload(row.op);
        if (row.device != DeviceType::cpu || workload == nullptr || (row.required & ~describe_host().features) != 0) {
            continue;
        }
        const std::string name(row.name);
        bool ran = false;
        for (const workloads::Intent intent : {workloads::Intent::smoke, workloads::Intent::regular}) {
            for (const std::string &shape : workload->shapes(intent)) {
                const auto made = workload->make({.op = std::string(row.op), .dtype = workloads::dtype_of(row), .shape = shape});
                if (ran || !made || !select((*made)->problem(), describe_host(), built_rows(), {&name, 1}).ok()) {
                    continue;
                }
                ASSERT_TRUE((*made)->prepare(row));
                const size_t bytes = (*made)->scratch_bytes(row);
                const std::unique_ptr<std::byte[]> scratch(new std::byte[bytes + Plan::kWorkspaceAlignment]);
                const size_t skip = Plan::kWorkspaceAlignment - reinterpret_cast<uintptr_t>(scratch.get()) % Plan::kWorkspaceAlignment;
                Status status;
                const size_t taken = stack_of([&] {
                    moa::Run run(1, {scratch.get() + skip, bytes});
                    status = (*made)->run(run, row);
                });
                ASSERT_TRUE(status) << status.message();
                of = taken > most ? name : of;
                most = std::max(most, taken);
                ran = true;
            }
        }
        rows += ran ? 1 : 0;
    }
    EXPECT_GT(rows, 0);
    RecordProperty("most_bytes", static_cast<int>(most));
    EXPECT_LE(most, Plan::kStackBytes) << of;
    EXPECT_LE(4 * most, ThreadPool::kStackBytes) << of << ": workers have room for the program's thread-local variables, too";
    std::printf("at most %zu bytes of stack, of %s (%d rows)\n", most, of.c_str(), rows);
}

TEST(Stack, OfALayer) {
    if (kSanitized) {
        GTEST_SKIP() << "sanitizers widen frames";
    }
    Weights weights;
    MixtureOfAttention::Config config = small_config();
    config.heads = 4;
    config.dim_head = 64;
    config.local_attn_window_size = 64;
    add_weights(weights, config);
    const Result<MixtureOfAttention> layer = MixtureOfAttention::create(config, weights.map);
    ASSERT_TRUE(layer.ok());
    MixtureOfAttention::Shapes shapes;
    shapes.batch = 2;
    shapes.length = 300;
    for (const DType dtype : {DType::f32, DType::bf16}) {
        const Result<Plan> plan = layer->plan(shapes, {.dtype = dtype, .threads = 1});
        ASSERT_TRUE(plan.ok()) << plan.status().message();
        std::vector<float> x = normal_values(static_cast<size_t>(shapes.batch * shapes.length * config.dim), 3), out = x;
        if (dtype == DType::bf16) {
            std::fill(x.begin(), x.end(), 0.F);
        }
        const int64_t extents[] = {shapes.batch, shapes.length, config.dim};
        Status status;
        const size_t taken = stack_of([&] { status = plan->run({{"x", {x.data(), dtype, extents}}, {"out", {out.data(), dtype, extents}}}); });
        ASSERT_TRUE(status) << status.message();
        EXPECT_LE(taken, Plan::kStackBytes);
        std::printf("%s: %zu bytes of stack\n", std::string(name_of(dtype)).c_str(), taken);
    }
}

}  // namespace

}  // namespace moa::tests
