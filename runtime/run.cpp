#include "runtime/run.h"

#include "runtime/cuda/launch.h"
#include "runtime/halide_runtime.h"
#include "runtime/text.h"
#include "runtime/thread_pool.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <new>

namespace moa {

namespace {

constexpr int kMaxArguments = 32;
constexpr int kRehearsed = -9001;  // what kernels return whose checks have passed (generators/codegen/checks.h)

halide_type_t halide_type(DType dtype) {
    switch (dtype) {
    case DType::f32:
        return {halide_type_float, 32, 1};
    case DType::f64:
        return {halide_type_float, 64, 1};
    case DType::bf16:
        return {halide_type_bfloat, 16, 1};
    case DType::f16:
        return {halide_type_float, 16, 1};
    case DType::i32:
        return {halide_type_int, 32, 1};
    case DType::i64:
        return {halide_type_int, 64, 1};
    case DType::u8:
    case DType::boolean:
        return {halide_type_uint, 8, 1};
    }
    return {halide_type_uint, 8, 1};
}

// A halide_buffer_t and its dimensions over the memory of a view.
struct KernelBuffer {
    halide_buffer_t buffer{};
    std::array<halide_dimension_t, kMaxRank> dimensions{};

    // False if extents, strides or their products leave 32 bits: kernels would index with wrapped numbers.
    bool set(const View &view, const Run &run) {
        constexpr int64_t kLimit = std::numeric_limits<int32_t>::max();
        int64_t reach = 1, elements = 1;
        for (int axis = 0; axis < view.rank; axis++) {
            Axis from = view.axes[axis];
            if (from.extent == 1 && axis > 0) {
                from.stride = std::clamp(from.stride, -kLimit, kLimit);  // leads nowhere
            }
            if (from.extent < 0 || from.extent > kLimit || from.stride < -kLimit || from.stride > kLimit) {
                return false;
            }
            reach += std::max<int64_t>(from.extent - 1, 0) * std::abs(from.stride);
            elements *= from.extent;
            if (reach > kLimit || elements > kLimit || from.extent * std::abs(from.stride) > kLimit) {
                return false;
            }
            dimensions[axis] = halide_dimension_t(0, static_cast<int32_t>(from.extent), static_cast<int32_t>(from.stride));
        }
        if (!run.on_gpu()) {
            const bool nowhere = run.rehearses() && view.data == nullptr;
            buffer.host = nowhere ? reinterpret_cast<uint8_t *>(Run::kNowhere) : static_cast<uint8_t *>(view.data);
        } else {
            cuda::place(buffer, run.place_of(view.data));
        }
        buffer.type = halide_type(view.dtype);
        buffer.dimensions = view.rank;
        buffer.dim = dimensions.data();
        return true;
    }
};

std::string shape_of(const View &view) {
    std::string result(name_of(view.dtype));
    for (int axis = 0; axis < view.rank; axis++) {
        result += text(" {}*{}", view.axes[axis].extent, view.axes[axis].stride);
    }
    return result;
}

}  // namespace

// Halide's malloc, free, error and parallel loops on a Run. Memory comes from the arena of the thread that asks;
// kernels free it on the thread that allocated it, in nearly reverse order.
struct Run::Hooks {
    static constexpr int kHeap = -1;

    struct Block {
        size_t bytes;  // with this header
        bool free;
        int slot;
    };

    static void *allocate(Run &run, size_t size) {
        // The host's part of what a kernel keeps on the GPU alone.
        alignas(kBlockAlignment) static std::byte nothing[1];
        if (size == 0 && run.on_gpu()) {
            return nothing;
        }
        const int slot = ThreadPool::current_slot();
        Arena &arena = run.arenas_[slot];
        const size_t left = arena.size - arena.used, bytes = block_bytes(size);
        std::byte *block = nullptr;
        if (run.heap_ && bytes > size) {
            block = static_cast<std::byte *>(::operator new (bytes, std::align_val_t{kBlockAlignment}, std::nothrow));
        } else if (bytes > size && bytes <= left) {
            block = arena.begin + arena.used;
            arena.used += bytes;
        }
        if (block == nullptr) {
            std::array<char, 128> message;
            std::snprintf(message.data(), message.size(), "out of memory: a thread asked for %zu bytes of scratch and had %zu left of %zu", size,
                          left, arena.size);
            error(run, message.data());
            return nullptr;
        }
        new (block) Block{bytes, false, run.heap_ ? kHeap : slot};
        return block + kBlockAlignment;
    }

    static void release(Run &run, void *memory) {
        if (memory == nullptr) {
            return;
        }
        // A kernel that was refused memory may go on with memory of its own, and hand that back here.
        if (!run.heap_ && !run.in_arenas(static_cast<std::byte *>(memory))) {
            return;
        }
        auto *block = reinterpret_cast<Block *>(static_cast<std::byte *>(memory) - kBlockAlignment);
        if (block->slot == kHeap) {
            ::operator delete (block, std::align_val_t{kBlockAlignment});
            return;
        }
        Arena &arena = run.arenas_[block->slot];
        block->free = true;
        const auto offset = static_cast<size_t>(reinterpret_cast<std::byte *>(block) - arena.begin);
        if (offset + block->bytes != arena.used) {
            return;  // goes with the block above it
        }
        // Walk from the start: blocks are few, and only the free ones at the end are given back.
        size_t end = 0;
        for (size_t at = 0; at < arena.used; at += reinterpret_cast<Block *>(arena.begin + at)->bytes) {
            const auto *other = reinterpret_cast<Block *>(arena.begin + at);
            end = other->free ? end : at + other->bytes;
        }
        arena.used = end;
    }

    // The first message of a launch is the cause.
    static void error(Run &run, const char *message) {
        if (!run.failed_.exchange(true)) {
            std::snprintf(run.error_, sizeof run.error_, "%s", message);
        }
    }

    static int parallel_for(Run &run, halide_task_t task, int min, int size, uint8_t *closure) {
        struct Context {
            Run &run;
            halide_task_t task;
            int min;
            uint8_t *closure;
        } context{run, task, min, closure};
        return ThreadPool::instance().parallel_for(
            run.threads_, size,
            [](void *c, int index) {
                const auto &loop = *static_cast<Context *>(c);
                return loop.task(&loop.run, loop.min + index, loop.closure);
            },
            &context);
    }
};

Run::Run(int threads, std::span<std::byte> scratch)
    : scratch_(scratch) {
    set_threads(threads);
}

void Run::set_threads(int threads) {
    threads_ = std::clamp(threads, 1, kMaxThreads);
    const auto misfit = reinterpret_cast<uintptr_t>(scratch_.data()) % kBlockAlignment;
    const size_t skip = misfit == 0 ? 0 : std::min(scratch_.size(), kBlockAlignment - misfit);
    const size_t share = (scratch_.size() - skip) / static_cast<size_t>(threads_) / kBlockAlignment * kBlockAlignment;
    for (int thread = 0; thread < threads_; thread++) {
        arenas_[thread] = {scratch_.data() + skip + static_cast<size_t>(thread) * share, share, 0};
    }
}

Run::Run(const cuda::Context &context, void *stream, std::span<std::byte> scratch, std::span<const Mirror> mirrors)
    : gpu_{.context = &context, .stream = stream, .scratch = scratch.data(), .scratch_bytes = scratch.size(), .mirrors = mirrors} {
}

Run::Run(const cuda::Context &rehearsed)
    : rehearses_(true), gpu_{.context = &rehearsed} {
}

Run::Run(const DeviceDescription &rehearsed)
    : rehearses_(true), described_(&rehearsed) {
}

bool Run::in_arenas(const std::byte *memory) const {
    return std::any_of(arenas_, arenas_ + threads_, [&](const Arena &arena) { return memory >= arena.begin && memory < arena.begin + arena.size; });
}

Status Run::launch(const Row &row, std::initializer_list<Argument> arguments) {
    std::array<KernelBuffer, kMaxArguments> buffers;
    std::array<void *, kMaxArguments + 1> pointers{};
    void *context = this;
    pointers[0] = &context;
    if (arguments.size() > kMaxArguments) {
        return {Code::internal, text("{} is launched with {} arguments", row.name, arguments.size())};
    }
    size_t index = 0;
    for (const Argument &argument : arguments) {
        if (argument.kind == Argument::Kind::view) {
            if (!buffers[index].set(argument.view, *this)) {
                return {Code::unsupported, text("{}: argument {} ({}) spans more than 2^31 - 1 elements, which no kernel indexes", row.name, index,
                                                shape_of(argument.view))};
            }
            pointers[index + 1] = &buffers[index].buffer;
        } else {
            pointers[index + 1] = argument.kind == Argument::Kind::i32 ? static_cast<void *>(const_cast<int32_t *>(&argument.i32)) : static_cast<void *>(const_cast<float *>(&argument.f32));
        }
        index++;
    }
    error_[0] = '\0';
    failed_ = false;
    if ((row.device == DeviceType::cuda) != on_gpu()) {
        return {Code::internal, text("{} is launched on {}", row.name, on_gpu() ? "a GPU" : "the cpu")};
    }
    heap_ = row.schedule == "reference";
    gpu_.used = 0;
    gpu_.blocks = 0;
    gpu_.failure = Code::internal;
    for (Arena &arena : std::span(arenas_).first(static_cast<size_t>(threads_))) {
        arena.used = 0;
    }
    return outcome(row, row.function(pointers.data()));
}

Status Run::outcome(const Row &row, int result) const {
    if ((result == 0 || (rehearses_ && result == kRehearsed)) && error_[0] == '\0') {
        return {};
    }
    const Code code = result == halide_error_code_out_of_memory ? Code::out_of_memory : gpu_.failure;
    return {code, text("{}: {} (error {})", row.name, error_[0] != '\0' ? error_ : "failed", result)};
}

}  // namespace moa

extern "C" {

void *moa_halide_malloc(void *user_context, size_t size) {
    return moa::Run::Hooks::allocate(*static_cast<moa::Run *>(user_context), size);
}

void moa_halide_free(void *user_context, void *memory) {
    moa::Run::Hooks::release(*static_cast<moa::Run *>(user_context), memory);
}

void moa_halide_error(void *user_context, const char *message) {
    moa::Run::Hooks::error(*static_cast<moa::Run *>(user_context), message);
}

void moa_halide_print(void * /*user_context*/, const char * /*message*/) {
}

int moa_rehearses(void *user_context) {
    return static_cast<moa::Run *>(user_context)->rehearses() ? 1 : 0;
}

int moa_halide_do_par_for(void *user_context, halide_task_t task, int min, int size, uint8_t *closure) {
    return moa::Run::Hooks::parallel_for(*static_cast<moa::Run *>(user_context), task, min, size, closure);
}

}  // extern "C"
