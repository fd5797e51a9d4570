#pragma once

#include "moa/status.h"
#include "moa/tensor.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

// NVIDIA's driver, opened at first use: nothing of CUDA is linked, and no CUDA header is needed. Declared here is what
// this library calls. Handles (contexts, modules, functions, streams, events, graphs) are pointers to unknown types.
namespace moa::cuda {

using Result_t = int;  // CUresult; 0 is success
using Address = uint64_t;

constexpr Result_t kOutOfMemory = 2, kNotInitialized = 3, kStub = 34, kNoDevice = 100, kUnsupportedPtx = 222;

// CUdevice_attribute, CUfunction_attribute and CUjit_option: the few that are used.
enum DeviceAttribute : int { kMultiprocessors = 16,
                             kCapabilityMajor = 75,
                             kCapabilityMinor = 76,
                             kSharedBytesOptin = 97 };
enum FunctionAttribute : int { kSharedBytes = 1,
                               kMaxDynamicSharedBytes = 8 };
enum JitOption : int { kErrorLog = 5,
                       kErrorLogBytes = 6 };
enum MemoryType : unsigned { kDeviceMemory = 2 };

// CUDA_MEMCPY2D.
struct Copy2D {
    size_t source_x = 0, source_y = 0;
    unsigned source_type = kDeviceMemory;
    const void *source_host = nullptr;
    Address source = 0;
    void *source_array = nullptr;
    size_t source_pitch = 0;
    size_t target_x = 0, target_y = 0;
    unsigned target_type = kDeviceMemory;
    void *target_host = nullptr;
    Address target = 0;
    void *target_array = nullptr;
    size_t target_pitch = 0;
    size_t width_bytes = 0, height = 0;
};

// X(member, exported name, parameters)
#define MOA_CUDA_FUNCTIONS(X)                                                                                                                                                                                                   \
    X(init, "cuInit", (unsigned flags))                                                                                                                                                                                         \
    X(driver_version, "cuDriverGetVersion", (int *version))                                                                                                                                                                     \
    X(device_count, "cuDeviceGetCount", (int *count))                                                                                                                                                                           \
    X(device_get, "cuDeviceGet", (int *device, int ordinal))                                                                                                                                                                    \
    X(device_name, "cuDeviceGetName", (char *name, int size, int device))                                                                                                                                                       \
    X(device_attribute, "cuDeviceGetAttribute", (int *value, int attribute, int device))                                                                                                                                        \
    X(device_memory, "cuDeviceTotalMem_v2", (size_t * bytes, int device))                                                                                                                                                       \
    X(error_name, "cuGetErrorName", (Result_t error, const char **name))                                                                                                                                                        \
    X(error_text, "cuGetErrorString", (Result_t error, const char **text))                                                                                                                                                      \
    X(context_current, "cuCtxGetCurrent", (void **context))                                                                                                                                                                     \
    X(context_device, "cuCtxGetDevice", (int *device))                                                                                                                                                                          \
    X(context_push, "cuCtxPushCurrent_v2", (void *context))                                                                                                                                                                     \
    X(context_pop, "cuCtxPopCurrent_v2", (void **context))                                                                                                                                                                      \
    X(primary_retain, "cuDevicePrimaryCtxRetain", (void **context, int device))                                                                                                                                                 \
    X(module_load, "cuModuleLoadDataEx", (void **module, const void *image, unsigned options, int *names, void **values))                                                                                                       \
    X(module_unload, "cuModuleUnload", (void *module))                                                                                                                                                                          \
    X(module_function, "cuModuleGetFunction", (void **function, void *module, const char *name))                                                                                                                                \
    X(function_get, "cuFuncGetAttribute", (int *value, int attribute, void *function))                                                                                                                                          \
    X(function_set, "cuFuncSetAttribute", (void *function, int attribute, int value))                                                                                                                                           \
    X(launch, "cuLaunchKernel", (void *function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared_bytes, void *stream, void **arguments, void **extra)) \
    X(memory_allocate, "cuMemAlloc_v2", (Address * memory, size_t bytes))                                                                                                                                                       \
    X(memory_free, "cuMemFree_v2", (Address memory))                                                                                                                                                                            \
    X(copy_to_device, "cuMemcpyHtoD_v2", (Address to, const void *from, size_t bytes))                                                                                                                                          \
    X(copy_to_host, "cuMemcpyDtoH_v2", (void *to, Address from, size_t bytes))                                                                                                                                                  \
    X(copy, "cuMemcpyDtoDAsync_v2", (Address to, Address from, size_t bytes, void *stream))                                                                                                                                     \
    X(copy_2d, "cuMemcpy2DAsync_v2", (const Copy2D *copy, void *stream))                                                                                                                                                        \
    X(fill_bytes, "cuMemsetD8Async", (Address memory, unsigned char value, size_t count, void *stream))                                                                                                                         \
    X(fill_words, "cuMemsetD32Async", (Address memory, unsigned value, size_t count, void *stream))                                                                                                                             \
    X(stream_create, "cuStreamCreate", (void **stream, unsigned flags))                                                                                                                                                         \
    X(stream_destroy, "cuStreamDestroy_v2", (void *stream))                                                                                                                                                                     \
    X(stream_synchronize, "cuStreamSynchronize", (void *stream))                                                                                                                                                                \
    X(event_create, "cuEventCreate", (void **event, unsigned flags))                                                                                                                                                            \
    X(event_destroy, "cuEventDestroy_v2", (void *event))                                                                                                                                                                        \
    X(event_record, "cuEventRecord", (void *event, void *stream))                                                                                                                                                               \
    X(stream_wait, "cuStreamWaitEvent", (void *stream, void *event, unsigned flags))                                                                                                                                            \
    X(event_synchronize, "cuEventSynchronize", (void *event))                                                                                                                                                                   \
    X(event_elapsed, "cuEventElapsedTime", (float *milliseconds, void *from, void *to))                                                                                                                                         \
    X(capture_begin, "cuStreamBeginCapture_v2", (void *stream, int mode))                                                                                                                                                       \
    X(capture_end, "cuStreamEndCapture", (void *stream, void **graph))                                                                                                                                                          \
    X(graph_instantiate, "cuGraphInstantiateWithFlags", (void **executable, void *graph, unsigned long long flags))                                                                                                             \
    X(graph_nodes, "cuGraphGetNodes", (void *graph, void **nodes, size_t *count))                                                                                                                                               \
    X(graph_launch, "cuGraphLaunch", (void *executable, void *stream))                                                                                                                                                          \
    X(graph_destroy, "cuGraphDestroy", (void *graph))                                                                                                                                                                           \
    X(executable_destroy, "cuGraphExecDestroy", (void *executable))

// In newer drivers only; null in others.
#define MOA_CUDA_LATE_FUNCTIONS(X)                                                                      \
    X(context_id, "cuCtxGetId", (void *context, unsigned long long *id))                                \
    X(function_load, "cuFuncLoad", (void *function))                                                    \
    X(module_function_count, "cuModuleGetFunctionCount", (unsigned *count, void *module))               \
    X(module_functions, "cuModuleEnumerateFunctions", (void **functions, unsigned count, void *module)) \
    X(function_name, "cuFuncGetName", (const char **name, void *function))

struct Driver {
#define MOA_DECLARE(member, name, parameters) Result_t(*member) parameters = nullptr;
    MOA_CUDA_FUNCTIONS(MOA_DECLARE)
    MOA_CUDA_LATE_FUNCTIONS(MOA_DECLARE)
#undef MOA_DECLARE
    int version = 0;  // 13000 for CUDA 13.0
    int devices = 0;
};

// The driver, initialised. Fails the same way every time if there is none, or if it knows no device; and in a child of fork()
// whose parent had opened it, as the driver works in the process that did only.
Result<const Driver *> driver();
// ok where the driver may be called: no such child. Whoever holds a context asks before each use; there, no lock of CUDA's
// state is taken, nor memory given back.
Status check_process();

// "cuMemAlloc: CUDA_ERROR_OUT_OF_MEMORY (out of memory)".
std::string error_text(const Driver &driver, Result_t error, std::string_view call);
// ok for 0. Running out of memory has a code of its own.
Status status_of(const Driver &driver, Result_t error, std::string_view call);

}  // namespace moa::cuda
