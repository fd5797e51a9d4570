#pragma once

#include "moa/rows.h"
#include "moa/status.h"
#include "runtime/float_environment.h"
#include "runtime/view.h"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>

namespace moa {

// One argument of a kernel: a view or a scalar.
struct Argument {
    enum class Kind : uint8_t { view,
                                i32,
                                f32 } kind;
    View view;
    int32_t i32 = 0;
    float f32 = 0;

    Argument(const View &v)
        : kind(Kind::view), view(v) {
    }
    Argument(int32_t v)
        : kind(Kind::i32), i32(v) {
    }
    Argument(float v)
        : kind(Kind::f32), f32(v) {
    }
};

namespace cuda {
class Context;
struct Module;
}  // namespace cuda

// Where memory of the host has a copy on a GPU: a launch there reads and writes the copy. For the constants of absent
// arguments, and for whoever checks rows with tensors of the host.
struct Mirror {
    const std::byte *begin = nullptr;
    size_t bytes = 0;
    std::byte *copy = nullptr;
};

// State of one run of a plan: what kernels reach through Halide's user_context. Lives on the caller's stack; every
// running plan has its own, so any number of threads may run plans at once. While it lives, the calling thread has the library's
// floating-point state.
class Run {
public:
    static constexpr int kMaxThreads = 256;

    // threads: how many threads parallel loops may use, the caller's included; at least 1.
    // scratch: memory that kernels' halide_malloc is served from, cut evenly into one arena a thread. Rows of schedule
    // "reference" keep whole intermediates and take them from the heap instead.
    Run(int threads, std::span<std::byte> scratch);
    // On a GPU: launches go to `stream` (a CUstream), `scratch` is memory of the device, and the context must be the calling
    // thread's current one.
    Run(const cuda::Context &context, void *stream, std::span<std::byte> scratch, std::span<const Mirror> mirrors = {});
    // A rehearsal of launches on a GPU: loads what they need, checks their arguments' shapes and measures their scratch, but
    // launches nothing. Views need no memory.
    static Run rehearsal(const cuda::Context &context) {
        return Run(context);
    }
    // The same for any device, with nothing loaded, so that it need not be there: a row checks what it demands of its arguments,
    // and a GPU's what the device has for its blocks. The description must outlive the run.
    static Run rehearsal(const DeviceDescription &device) {
        return Run(device);
    }
    // Where a rehearsal says that memory is which a view lacks: no kernel ever touches it, and it satisfies every alignment.
    static constexpr uint64_t kNowhere = uint64_t{1} << 32;
    ~Run() = default;
    Run(const Run &) = delete;
    Run &operator=(const Run &) = delete;

    int threads() const {
        return threads_;
    }
    // For the launches that follow, on the CPU: scratch is cut anew.
    void set_threads(int threads);

    bool on_gpu() const {
        return gpu_.context != nullptr || (described_ != nullptr && described_->device.type != DeviceType::cpu);
    }
    // Null on the CPU, and where a rehearsal has only a device's description.
    const cuda::Context *context() const {
        return gpu_.context;
    }
    void *stream() const {
        return gpu_.stream;
    }
    // Where the next launches go, and what their scratch is.
    void move_to(void *stream, std::span<std::byte> scratch) {
        gpu_.stream = stream;
        gpu_.scratch = scratch.data();
        gpu_.scratch_bytes = scratch.size();
        gpu_.used = 0;
        gpu_.blocks = 0;
    }
    // Of an argument, on the GPU.
    std::byte *place_of(const void *memory) const;
    bool rehearses() const {
        return rehearses_;
    }
    int gpu_launches() const {
        return gpu_.launches;
    }
    size_t gpu_scratch_bytes() const {
        return gpu_.peak;
    }

    // Bytes of an arena that a block of halide_malloc takes.
    static constexpr size_t block_bytes(size_t size) {
        return kBlockAlignment + (size + kBlockAlignment - 1) / kBlockAlignment * kBlockAlignment;
    }
    static constexpr size_t kBlockAlignment = 128;

    // Calls the row with the arguments, in the order of its signature (generators/<op>.h). Views of 2^31 elements or
    // more are refused; errors of the kernel come back with its message. Allocates nothing when all is well.
    Status launch(const Row &row, std::initializer_list<Argument> arguments);

    struct Hooks;      // Halide's malloc, free, do_par_for and error, on a Run
    struct CudaHooks;  // Halide's CUDA runtime, on a Run (runtime/cuda/launch.cpp)

private:
    friend struct Hooks;
    friend struct CudaHooks;
    explicit Run(const cuda::Context &rehearsed);
    explicit Run(const DeviceDescription &rehearsed);
    Status outcome(const Row &row, int result) const;
    static constexpr int kErrorBytes = 512;
    bool in_arenas(const std::byte *memory) const;

    FloatEnvironment floats_;
    int threads_ = 1;
    std::span<std::byte> scratch_;  // of the CPU
    bool rehearses_ = false;
    const DeviceDescription *described_ = nullptr;  // of a rehearsal without a context
    bool heap_ = false;                             // instead of the arenas
    // The hooks' state follows: arenas, first error message.
    struct Arena {
        std::byte *begin = nullptr;
        size_t size = 0;
        size_t used = 0;
    };
    Arena arenas_[kMaxThreads];
    struct Gpu {
        const cuda::Context *context = nullptr;
        void *stream = nullptr;
        std::byte *scratch = nullptr;
        size_t scratch_bytes = 0;
        std::span<const Mirror> mirrors;
        const cuda::Module *module = nullptr;  // of the row being launched
        size_t used = 0, peak = 0;             // of the scratch; what is freed in between stays in order on the stream
        int blocks = 0;                        // of the scratch, in use
        int launches = 0;
        Code failure = Code::internal;  // of the latest launch, if its hooks refused something
    };
    Gpu gpu_;
    std::atomic<bool> failed_{false};  // somebody writes, or has written, the message
    char error_[kErrorBytes] = {};
};

}  // namespace moa
