#pragma once

#include "moa/status.h"
#include "runtime/cuda/context.h"
#include "runtime/view.h"

#include <cstddef>
#include <memory>

namespace moa::cuda {

// Memory of a device, freed with its last owner.
class DeviceMemory {
public:
    static Result<std::shared_ptr<DeviceMemory>> allocate(std::shared_ptr<const Context> context, size_t bytes);
    DeviceMemory(std::shared_ptr<const Context> context, Address address, size_t bytes)
        : context_(std::move(context)), address_(address), bytes_(bytes) {
    }
    ~DeviceMemory();
    DeviceMemory(const DeviceMemory &) = delete;
    DeviceMemory &operator=(const DeviceMemory &) = delete;

    const Context &context() const {
        return *context_;
    }
    std::byte *data() const {
        return reinterpret_cast<std::byte *>(address_);
    }
    size_t size() const {
        return bytes_;
    }
    // Whole when they return: whatever stream uses the memory next sees it.
    Status copy_from_host(const void *from, size_t bytes, size_t offset = 0) const;
    Status copy_to_host(void *to, size_t bytes, size_t offset = 0) const;

private:
    std::shared_ptr<const Context> context_;
    Address address_;
    size_t bytes_;
};

Result<std::shared_ptr<const DeviceMemory>> upload(const std::shared_ptr<const Context> &context, const void *data, size_t bytes);

// The device's copy of what `owner` holds at `data`: one a context, for as long as anybody uses it.
Result<std::shared_ptr<const DeviceMemory>> shared_upload(const std::shared_ptr<const Context> &context, std::shared_ptr<const void> owner, const void *data,
                                                          size_t bytes);

// Device work without a kernel of ours, on views of equal extents: copies of elements, and a word or byte everywhere.
Status copy_elements(const Context &context, void *stream, const View &from, const View &to);
Status fill_words(const Context &context, void *stream, const View &to, uint32_t value);

}  // namespace moa::cuda
