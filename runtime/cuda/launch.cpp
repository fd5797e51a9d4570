#include "runtime/cuda/launch.h"

#include "runtime/cuda/context.h"
#include "runtime/halide_runtime.h"
#include "runtime/ops_absent.h"
#include "runtime/text.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <new>
#include <string_view>

// The part of Halide's runtime that CUDA rows call, on a Run: their host code knows grid, arguments and shared memory, and
// leaves loading, launching and memory to these functions.
namespace moa {

namespace {

constexpr size_t kMaxKernelArguments = 128;
constexpr size_t kScratchAlignment = 256;
constexpr unsigned kMostBlocks = 65535;  // along y and z, on every device; along x 2^31 - 1

}  // namespace

struct Run::CudaHooks {
    static void error(Run &run, std::string_view message) {
        if (!run.failed_.exchange(true)) {
            std::snprintf(run.error_, sizeof run.error_, "%.*s", static_cast<int>(message.size()), message.data());
        }
    }

    // Rows' host code knows no exceptions: none leaves a hook.
    template<class Body>
    static int guarded(void *user_context, Body body) noexcept {
        Run &run = *static_cast<Run *>(user_context);
        try {
            return body(run);
        } catch (const std::bad_alloc &) {
            error(run, "out of memory");
            run.gpu_.failure = Code::out_of_memory;
        } catch (...) {
            error(run, "an exception of unknown kind");
        }
        return cuda::kRefused;
    }

    static int load(Run &run, const char *code, int bytes) {
        if (run.gpu_.context == nullptr) {
            if (run.on_gpu()) {
                return 0;  // a rehearsal without the device
            }
            error(run, "a CUDA row on the cpu");
            return cuda::kRefused;
        }
        const Result<const cuda::Module *> module = run.gpu_.context->module(code, static_cast<size_t>(bytes));
        if (!module.ok()) {
            error(run, module.status().message());
            run.gpu_.failure = module.status().code();
            return cuda::kRefused;
        }
        run.gpu_.module = *module;
        return 0;
    }

    struct Shape {
        std::array<unsigned, 3> blocks, threads;
        int shared_bytes;
    };

    // Whether the device has what a kernel's blocks take.
    static bool fits(Run &run, const char *name, const Shape &shape, int shared_limit, const DeviceDescription &device) {
        if (shape.shared_bytes > shared_limit) {
            error(run, text("kernel {} needs {} bytes of shared memory a block; {} has {}", name, shape.shared_bytes, device.name, shared_limit));
            return false;
        }
        if (shape.blocks[1] > kMostBlocks || shape.blocks[2] > kMostBlocks) {
            error(run, text("kernel {} takes {} x {} x {} blocks; GPUs have at most {} along the last two", name, shape.blocks[0], shape.blocks[1], shape.blocks[2], kMostBlocks));
            return false;
        }
        return true;
    }

    static int launch(Run &run, const char *name, const Shape &shape, void **arguments, const int8_t *is_buffer) {
        if (run.described_ != nullptr) {
            run.gpu_.launches++;
            return fits(run, name, shape, run.described_->shared_bytes, *run.described_) ? 0 : cuda::kRefused;
        }
        const cuda::Kernel *kernel = run.gpu_.module->find(name);
        if (kernel == nullptr) {
            error(run, text("its device code has no kernel {}", name));
            return cuda::kRefused;
        }
        if (!fits(run, name, shape, kernel->shared_limit, run.gpu_.context->description())) {
            return cuda::kRefused;
        }
        run.gpu_.launches++;
        if (run.rehearses()) {
            return 0;
        }
        std::array<uint64_t, kMaxKernelArguments> addresses;
        std::array<void *, kMaxKernelArguments> values;
        size_t count = 0;
        for (; arguments[count] != nullptr; count++) {
            if (count == kMaxKernelArguments) {
                error(run, text("kernel {} has more than {} arguments", name, kMaxKernelArguments));
                return cuda::kRefused;
            }
            addresses[count] = is_buffer[count] != 0 ? static_cast<const halide_buffer_t *>(arguments[count])->device : 0;
            values[count] = is_buffer[count] != 0 ? &addresses[count] : arguments[count];
        }
        const cuda::Driver &driver = run.gpu_.context->driver();
        const cuda::Result_t result = driver.launch(kernel->function, shape.blocks[0], shape.blocks[1], shape.blocks[2], shape.threads[0], shape.threads[1], shape.threads[2],
                                                    static_cast<unsigned>(shape.shared_bytes), run.gpu_.stream, values.data(), nullptr);
        if (result != 0) {
            error(run, cuda::error_text(driver, result, text("launching {}", name)));
            run.gpu_.failure = result == cuda::kOutOfMemory ? Code::out_of_memory : Code::device_error;
            return cuda::kRefused;
        }
        return 0;
    }

    // Blocks are taken one behind the other. The last one's end comes back when it is freed, all when none is left: later
    // kernels may have the memory at once, since the stream runs them in order.
    static int allocate(Run &run, halide_buffer_t &buffer, const halide_device_interface_t *interface) {
        Gpu &gpu = run.gpu_;
        if (buffer.device != 0) {
            return 0;
        }
        const size_t bytes = rounded(buffer);
        if (!run.rehearses() && bytes > gpu.scratch_bytes - gpu.used) {
            error(run, text("a kernel asked for {} bytes of device scratch and had {} left of {}", bytes, gpu.scratch_bytes - gpu.used, gpu.scratch_bytes));
            gpu.failure = Code::out_of_memory;
            return cuda::kRefused;
        }
        buffer.device = base(run) + gpu.used;
        buffer.device_interface = interface;
        gpu.used += bytes;
        gpu.peak = std::max(gpu.peak, gpu.used);
        gpu.blocks++;
        return 0;
    }

    static int release(Run &run, halide_buffer_t &buffer) {
        Gpu &gpu = run.gpu_;
        if (buffer.device < base(run) || buffer.device >= base(run) + gpu.used || gpu.blocks == 0) {
            return 0;  // an argument: the caller's
        }
        const size_t offset = buffer.device - base(run);
        if (offset + rounded(buffer) == gpu.used) {
            gpu.used = offset;
        }
        if (--gpu.blocks == 0) {
            gpu.used = 0;
        }
        buffer.device = 0;
        buffer.device_interface = nullptr;
        return 0;
    }

    static uint64_t base(const Run &run) {
        return run.rehearses() ? 2 * Run::kNowhere : reinterpret_cast<uint64_t>(run.gpu_.scratch);
    }
    static size_t rounded(const halide_buffer_t &buffer) {
        return (buffer.size_in_bytes() + kScratchAlignment - 1) / kScratchAlignment * kScratchAlignment;
    }
};

std::byte *Run::place_of(const void *memory) const {
    const auto *address = static_cast<const std::byte *>(memory);
    if (rehearses_ && (memory == nullptr || gpu_.context == nullptr)) {
        return reinterpret_cast<std::byte *>(memory == nullptr ? kNowhere : reinterpret_cast<uint64_t>(memory));
    }
    if (ops::kAbsent.holds(memory)) {
        return reinterpret_cast<std::byte *>(gpu_.context->absent()) + (address - reinterpret_cast<const std::byte *>(&ops::kAbsent));
    }
    for (const Mirror &mirror : gpu_.mirrors) {
        if (address >= mirror.begin && address < mirror.begin + mirror.bytes) {
            return mirror.copy + (address - mirror.begin);
        }
    }
    return const_cast<std::byte *>(address);
}

void cuda::place(halide_buffer_t &buffer, const std::byte *memory) {
    buffer.device = reinterpret_cast<uint64_t>(memory);
    buffer.device_interface = moa_halide_cuda_device_interface();
    buffer.set_device_dirty(true);
}

}  // namespace moa

namespace {

moa::Run &run_of(void *user_context) {
    return *static_cast<moa::Run *>(user_context);
}

int refuse(void *user_context, const char *what) {
    moa::Run::CudaHooks::error(run_of(user_context), what);
    return moa::cuda::kRefused;
}

}  // namespace

extern "C" {

// Only its address counts: every function of the runtime that would look into it is replaced below.
const halide_device_interface_t *moa_halide_cuda_device_interface() {
    static const halide_device_interface_t interface {};
    return &interface;
}

int moa_halide_cuda_initialize_kernels(void *user_context, void ** /*state*/, const char *code, int bytes) {
    return moa::Run::CudaHooks::guarded(user_context, [=](moa::Run &run) { return moa::Run::CudaHooks::load(run, code, bytes); });
}

void moa_halide_cuda_finalize_kernels(void * /*user_context*/, void * /*state*/) {
}

int moa_halide_cuda_run(void *user_context, void * /*state*/, const char *kernel, int blocks_x, int blocks_y, int blocks_z, int threads_x, int threads_y,
                        int threads_z, int shared_bytes, size_t * /*sizes*/, void *arguments[], int8_t is_buffer[]) {
    const auto triple = [](int x, int y, int z) { return std::array{static_cast<unsigned>(x), static_cast<unsigned>(y), static_cast<unsigned>(z)}; };
    const moa::Run::CudaHooks::Shape shape{triple(blocks_x, blocks_y, blocks_z), triple(threads_x, threads_y, threads_z), shared_bytes};
    return moa::Run::CudaHooks::guarded(user_context, [&](moa::Run &run) { return moa::Run::CudaHooks::launch(run, kernel, shape, arguments, is_buffer); });
}

int moa_halide_device_malloc(void *user_context, halide_buffer_t *buffer, const halide_device_interface_t *interface) {
    return moa::Run::CudaHooks::guarded(user_context, [=](moa::Run &run) { return moa::Run::CudaHooks::allocate(run, *buffer, interface); });
}

int moa_halide_device_free(void *user_context, halide_buffer_t *buffer) {
    return moa::Run::CudaHooks::release(run_of(user_context), *buffer);
}

int moa_halide_device_and_host_malloc(void *user_context, halide_buffer_t * /*buffer*/, const halide_device_interface_t * /*interface*/) {
    return refuse(user_context, "a row that computes on the device and on the host");
}

int moa_halide_device_and_host_free(void * /*user_context*/, halide_buffer_t * /*buffer*/) {
    return 0;
}

int moa_halide_copy_to_device(void *user_context, halide_buffer_t *buffer, const halide_device_interface_t * /*interface*/) {
    return buffer->device != 0 ? 0 : refuse(user_context, "an argument is not on the device");
}

int moa_halide_copy_to_host(void *user_context, halide_buffer_t * /*buffer*/) {
    return refuse(user_context, "a row that reads the device's results on the host");
}

int moa_halide_device_sync(void * /*user_context*/, halide_buffer_t * /*buffer*/) {
    return 0;
}

}  // extern "C"
