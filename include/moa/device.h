#pragma once

#include "moa/export.h"
#include "moa/status.h"
#include "moa/tensor.h"

#include <cstdint>
#include <string>
#include <string_view>

namespace moa {

// Instruction sets that rows may require. The names are those of variants/targets.json.
enum class CpuFeature : uint8_t { sse41,
                                  avx,
                                  avx2,
                                  fma,
                                  f16c,
                                  avx512f,
                                  avx512bw,
                                  avx512cd,
                                  avx512dq,
                                  avx512vl,
                                  avx512ifma,
                                  avx512vbmi,
                                  avx512vbmi2,
                                  avx512vnni,
                                  avx512bitalg,
                                  avx512vpopcntdq,
                                  avx512bf16,
                                  avx512fp16,
                                  avxvnni,
                                  amx_tile,
                                  amx_bf16,
                                  count };

MOA_EXPORT std::string_view name_of(CpuFeature feature);

using CpuFeatures = uint64_t;  // bit f is set for the CpuFeature of value f

constexpr CpuFeatures bit(CpuFeature feature) {
    return CpuFeatures{1} << static_cast<int>(feature);
}

// What `select` knows of a machine. Made by hand in tests, by describe_host() elsewhere.
struct DeviceDescription {
    Device device;
    std::string name;  // "AMD EPYC 9654"
    CpuFeatures features = 0;
    // Of the cpu: threads of this process that can run at once: CPUs that any of its threads may run on (the calling thread's own
    // affinity does not matter), at most the quota of its control groups (cpu.max, cpu.cfs_quota_us), rounded up. Of a GPU:
    // streaming multiprocessors.
    int cores = 1;
    int capability = 0;        // CUDA: 90 for compute capability 9.0
    int shared_bytes = 0;      // CUDA: shared memory that one block can have
    int64_t memory_bytes = 0;  // CUDA: of the device
};

// Asks the operating system, once a process, for the use of AMX tiles where the CPU has them.
MOA_EXPORT DeviceDescription describe_host();

// The host, or a GPU as its driver describes it. Fails, saying what there is, without a driver, for a device that does
// not exist (cuda:-1 is none; of the cpu there is one), and for one of a compute capability below 8.0.
MOA_EXPORT Result<DeviceDescription> describe_device(const Device &device);

}  // namespace moa
