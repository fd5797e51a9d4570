#include "moa/cuda.h"

#include "runtime/caught.h"
#include "runtime/cuda/memory.h"
#include "runtime/text.h"

namespace moa {

Result<DeviceDescription> describe_device(const Device &device) try {
    if (device.type == DeviceType::cpu) {
        if (device != Device{}) {
            return invalid("device {}: there is one cpu, of index 0 or -1", name_of(device));
        }
        return describe_host();
    }
    if (device.type != DeviceType::cuda) {
        return Status(Code::unsupported, text("device {}: cpu and cuda are what there are rows for", name_of(device)));
    }
    const Result<const cuda::Driver *> driver = cuda::driver();
    if (!driver.ok()) {
        return Status(driver.status().code(), text("{}: {}", name_of(device), driver.status().message()));
    }
    return cuda::describe(**driver, device.index);
} catch (...) {
    return caught("describe_device");
}

}  // namespace moa

namespace moa::cuda {

namespace {

Result<std::shared_ptr<const Context>> context_of(const Device &device) {
    if (device.type != DeviceType::cuda) {
        return invalid("{} is no GPU", name_of(device));
    }
    return Context::of(device);
}

}  // namespace

int device_count() try {
    const Result<const Driver *> functions = driver();
    return functions.ok() ? (*functions)->devices : 0;
} catch (...) {
    return 0;
}

struct DeviceBuffer::Impl {
    std::shared_ptr<DeviceMemory> memory;
};

Result<DeviceBuffer> DeviceBuffer::allocate(const Device &device, size_t bytes) try {
    Result<std::shared_ptr<const Context>> context = context_of(device);
    if (!context.ok()) {
        return context.status();
    }
    Result<std::shared_ptr<DeviceMemory>> memory = DeviceMemory::allocate(std::move(*context), bytes);
    if (!memory.ok()) {
        return memory.status();
    }
    DeviceBuffer buffer;
    buffer.impl_ = std::make_shared<const Impl>(Impl{std::move(*memory)});
    return buffer;
} catch (...) {
    return caught("DeviceBuffer::allocate");
}

std::byte *DeviceBuffer::data() const {
    return impl_ ? impl_->memory->data() : nullptr;
}

size_t DeviceBuffer::size() const {
    return impl_ ? impl_->memory->size() : 0;
}

Device DeviceBuffer::device() const {
    return impl_ ? impl_->memory->context().description().device : Device{};
}

Status DeviceBuffer::copy_from_host(const void *from, size_t bytes, size_t offset) const try {
    return impl_ ? impl_->memory->copy_from_host(from, bytes, offset) : invalid("a device buffer without memory");
} catch (...) {
    return caught("DeviceBuffer::copy_from_host");
}

Status DeviceBuffer::copy_to_host(void *to, size_t bytes, size_t offset) const try {
    return impl_ ? impl_->memory->copy_to_host(to, bytes, offset) : invalid("a device buffer without memory");
} catch (...) {
    return caught("DeviceBuffer::copy_to_host");
}

struct Stream::Impl {
    std::shared_ptr<const Context> context;
    void *handle = nullptr;

    ~Impl() {
        const Current current(*context);
        if (handle != nullptr && current.status().ok()) {
            context->driver().stream_destroy(handle);
        }
    }
};

Result<Stream> Stream::create(const Device &device) try {
    constexpr unsigned kNonBlocking = 1;
    Result<std::shared_ptr<const Context>> context = context_of(device);
    if (!context.ok()) {
        return context.status();
    }
    const auto impl = std::make_shared<Impl>();
    impl->context = *context;
    const Current current(**context);
    Status status = current.status();
    if (status.ok()) {
        status = status_of((*context)->driver(), (*context)->driver().stream_create(&impl->handle, kNonBlocking), "cuStreamCreate");
    }
    if (!status.ok()) {
        return status;
    }
    Stream stream;
    stream.impl_ = impl;
    return stream;
} catch (...) {
    return caught("Stream::create");
}

void *Stream::get() const {
    return impl_ ? impl_->handle : nullptr;
}

Status Stream::synchronize() const try {
    if (!impl_) {
        return invalid("a stream without a device");
    }
    const Current current(*impl_->context);
    return current.status().ok() ? status_of(impl_->context->driver(), impl_->context->driver().stream_synchronize(impl_->handle), "cuStreamSynchronize") : current.status();
} catch (...) {
    return caught("Stream::synchronize");
}

Status synchronize(const Device &device, void *stream) try {
    const Result<std::shared_ptr<const Context>> context = context_of(device);
    if (!context.ok()) {
        return context.status();
    }
    const Current current(**context);
    return current.status().ok() ? status_of((*context)->driver(), (*context)->driver().stream_synchronize(stream), "cuStreamSynchronize") : current.status();
} catch (...) {
    return caught("synchronize");
}

}  // namespace moa::cuda
