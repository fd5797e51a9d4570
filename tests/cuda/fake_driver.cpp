#include "tests/cuda/fake_driver.h"

#include "runtime/cuda/driver.h"

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <unistd.h>

namespace {

moa::tests::FakeDriver fake;
void *current = nullptr;
char context, module, function, stream, event, graph;
pid_t owner = 0;

// NVIDIA's driver may wait for ever in a child of the process that opened it.
void only_in_its_process() {
    if (owner != 0 && owner != getpid()) {
        std::abort();
    }
}

constexpr int kOutOfMemory = 2, kStub = 34, kNoDevice = 100;

template<class Handle>
int give(Handle **out, void *value) {
    *out = value;
    return 0;
}

}  // namespace

#define MOA_EXPORTED extern "C" __attribute__((visibility("default")))

MOA_EXPORTED moa::tests::FakeDriver *moa_fake_driver() {
    return &fake;
}

MOA_EXPORTED int cuInit(unsigned) {
    only_in_its_process();
    owner = getpid();
    const char *capability = std::getenv("MOA_FAKE_CAPABILITY"), *kind = std::getenv("MOA_FAKE_DRIVER");
    fake.capability = capability != nullptr ? std::atoi(capability) : fake.capability;
    const std::string_view name = kind != nullptr ? kind : "";
    return name == "none" ? kNoDevice : (name == "stub" ? kStub : 0);
}
MOA_EXPORTED int cuDriverGetVersion(int *version) {
    *version = 12020;
    return 0;
}
MOA_EXPORTED int cuDeviceGetCount(int *count) {
    only_in_its_process();
    *count = fake.devices;
    return 0;
}
MOA_EXPORTED int cuDeviceGet(int *device, int ordinal) {
    only_in_its_process();
    *device = ordinal;
    return 0;
}
MOA_EXPORTED int cuDeviceGetName(char *name, int size, int) {
    std::strncpy(name, "Fake GPU", static_cast<size_t>(size));
    return 0;
}
MOA_EXPORTED int cuDeviceGetAttribute(int *value, int attribute, int) {
    constexpr int kMajor = 75, kMinor = 76, kShared = 97;
    *value = attribute == kMajor ? fake.capability / 10 : (attribute == kMinor ? fake.capability % 10 : (attribute == kShared ? fake.shared_bytes : 1));
    return 0;
}
MOA_EXPORTED int cuDeviceTotalMem_v2(size_t *bytes, int) {
    *bytes = size_t{1} << 30;
    return 0;
}
MOA_EXPORTED int cuGetErrorName(int error, const char **name) {
    *name = error == kOutOfMemory ? "CUDA_ERROR_OUT_OF_MEMORY" : (error == 222 ? "CUDA_ERROR_UNSUPPORTED_PTX_VERSION" : "CUDA_ERROR_OF_THE_FAKE");
    return 0;
}
MOA_EXPORTED int cuGetErrorString(int, const char **text) {
    *text = "as asked for";
    return 0;
}
MOA_EXPORTED int cuCtxGetCurrent(void **out) {
    only_in_its_process();
    return give(out, current);
}
MOA_EXPORTED int cuCtxGetDevice(int *device) {
    *device = 0;
    return 0;
}
MOA_EXPORTED int cuCtxPushCurrent_v2(void *pushed) {
    only_in_its_process();
    current = pushed;
    return 0;
}
MOA_EXPORTED int cuCtxPopCurrent_v2(void **out) {
    *out = current;
    current = nullptr;
    return 0;
}
MOA_EXPORTED int cuDevicePrimaryCtxRetain(void **out, int) {
    only_in_its_process();
    return give(out, &context);
}
MOA_EXPORTED int cuModuleLoadDataEx(void **out, const void *, unsigned, int *, void **) {
    only_in_its_process();
    fake.modules += fake.load_error == 0 ? 1 : 0;
    *out = &module;
    return fake.load_error;
}
MOA_EXPORTED int cuModuleUnload(void *) {
    return 0;
}
MOA_EXPORTED int cuModuleGetFunction(void **out, void *, const char *) {
    return give(out, &function);
}
MOA_EXPORTED int cuFuncGetAttribute(int *value, int, void *) {
    *value = 0;
    return 0;
}
MOA_EXPORTED int cuFuncSetAttribute(void *, int, int) {
    return 0;
}
MOA_EXPORTED int cuLaunchKernel(void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned shared, void *, void **, void **) {
    only_in_its_process();
    fake.launches++;
    fake.largest_shared = static_cast<int>(shared) > fake.largest_shared ? static_cast<int>(shared) : fake.largest_shared;
    return fake.launch_error;
}
MOA_EXPORTED int cuMemAlloc_v2(uint64_t *memory, size_t bytes) {
    only_in_its_process();
    if (fake.memory_error != 0 || bytes > size_t{1} << 30) {
        return fake.memory_error != 0 ? fake.memory_error : kOutOfMemory;
    }
    *memory = reinterpret_cast<uint64_t>(std::aligned_alloc(256, (bytes + 255) / 256 * 256));
    fake.allocated++;
    return 0;
}
MOA_EXPORTED int cuMemFree_v2(uint64_t memory) {
    only_in_its_process();
    std::free(reinterpret_cast<void *>(memory));
    fake.allocated--;
    return 0;
}
MOA_EXPORTED int cuMemcpyHtoD_v2(uint64_t to, const void *from, size_t bytes) {
    std::memcpy(reinterpret_cast<void *>(to), from, bytes);
    return 0;
}
MOA_EXPORTED int cuMemcpyDtoH_v2(void *to, uint64_t from, size_t bytes) {
    std::memcpy(to, reinterpret_cast<const void *>(from), bytes);
    return 0;
}
MOA_EXPORTED int cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t bytes, void *) {
    fake.copies++;
    std::memcpy(reinterpret_cast<void *>(to), reinterpret_cast<const void *>(from), bytes);
    return 0;
}
MOA_EXPORTED int cuMemcpy2DAsync_v2(const moa::cuda::Copy2D *copy, void *) {
    fake.copies++;
    for (size_t row = 0; row < copy->height; row++) {
        std::memcpy(reinterpret_cast<void *>(copy->target + row * copy->target_pitch), reinterpret_cast<const void *>(copy->source + row * copy->source_pitch), copy->width_bytes);
    }
    return 0;
}
MOA_EXPORTED int cuMemsetD8Async(uint64_t, unsigned char, size_t, void *) {
    return 0;
}
MOA_EXPORTED int cuMemsetD32Async(uint64_t, unsigned, size_t, void *) {
    return 0;
}
MOA_EXPORTED int cuStreamCreate(void **out, unsigned) {
    only_in_its_process();
    return give(out, &stream);
}
MOA_EXPORTED int cuStreamDestroy_v2(void *) {
    only_in_its_process();
    return 0;
}
MOA_EXPORTED int cuStreamSynchronize(void *) {
    only_in_its_process();
    fake.synchronisations++;
    return 0;
}
MOA_EXPORTED int cuEventCreate(void **out, unsigned) {
    return give(out, &event);
}
MOA_EXPORTED int cuEventDestroy_v2(void *) {
    return 0;
}
MOA_EXPORTED int cuEventRecord(void *, void *) {
    return 0;
}
MOA_EXPORTED int cuStreamWaitEvent(void *, void *, unsigned) {
    return 0;
}
MOA_EXPORTED int cuEventSynchronize(void *) {
    return 0;
}
MOA_EXPORTED int cuEventElapsedTime(float *milliseconds, void *, void *) {
    *milliseconds = 1;
    return 0;
}
MOA_EXPORTED int cuStreamBeginCapture_v2(void *, int) {
    return 0;
}
MOA_EXPORTED int cuStreamEndCapture(void *, void **out) {
    return give(out, &graph);
}
MOA_EXPORTED int cuGraphInstantiateWithFlags(void **out, void *, unsigned long long) {
    return give(out, &graph);
}
MOA_EXPORTED int cuGraphGetNodes(void *, void **, size_t *count) {
    *count = 1;
    return 0;
}
MOA_EXPORTED int cuGraphLaunch(void *, void *) {
    only_in_its_process();
    return 0;
}
MOA_EXPORTED int cuGraphDestroy(void *) {
    return 0;
}
MOA_EXPORTED int cuGraphExecDestroy(void *) {
    only_in_its_process();
    return 0;
}
