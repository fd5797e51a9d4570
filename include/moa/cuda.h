#pragma once

#include "moa/device.h"
#include "moa/export.h"
#include "moa/status.h"

#include <cstddef>
#include <memory>
#include <span>

// What a program needs to run plans on NVIDIA GPUs without CUDA's own headers. Programs that have those pass their own
// device addresses and streams: a std::span<std::byte> over device memory, a CUstream (or cudaStream_t) as void *.
namespace moa::cuda {

// 0 without a driver or a GPU, or without memory to ask; describe_device() says why.
MOA_EXPORT int device_count();

// Memory of a GPU, freed with the last copy of this.
class MOA_EXPORT DeviceBuffer {
public:
    DeviceBuffer() = default;
    static Result<DeviceBuffer> allocate(const Device &device, size_t bytes);

    // Device addresses: not to be read by the host.
    std::byte *data() const;
    size_t size() const;
    std::span<std::byte> bytes() const {
        return {data(), size()};
    }
    Device device() const;

    // These wait until the bytes are there, and copy_to_host() for the work on the default stream before them.
    Status copy_from_host(const void *from, size_t bytes, size_t offset = 0) const;
    Status copy_to_host(void *to, size_t bytes, size_t offset = 0) const;

private:
    struct Impl;
    std::shared_ptr<const Impl> impl_;
};

// A stream that does not wait for the default stream, nor the other way round. Destroyed with the last copy.
class MOA_EXPORT Stream {
public:
    Stream() = default;
    static Result<Stream> create(const Device &device);

    void *get() const;           // a CUstream; null for a default-constructed one, which is the default stream
    Status synchronize() const;  // waits for the work so far, and reports what failed in it

private:
    struct Impl;
    std::shared_ptr<const Impl> impl_;
};

// Waits for a stream of the caller's.
MOA_EXPORT Status synchronize(const Device &device, void *stream = nullptr);

}  // namespace moa::cuda
