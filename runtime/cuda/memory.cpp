#include "runtime/cuda/memory.h"

#include "runtime/text.h"

#include <algorithm>
#include <map>
#include <mutex>
#include <utility>

namespace moa::cuda {

Result<std::shared_ptr<DeviceMemory>> DeviceMemory::allocate(std::shared_ptr<const Context> context, size_t bytes) {
    const Current current(*context);
    Address address = 0;
    Status status = current.status();
    if (status.ok()) {
        status = status_of(context->driver(), context->driver().memory_allocate(&address, std::max<size_t>(bytes, 1)), "cuMemAlloc");
    }
    if (!status.ok()) {
        return Status(status.code(), text("{} bytes on {} ({}): {}", bytes, name_of(context->description().device), context->description().name, status.message()));
    }
    try {
        return std::make_shared<DeviceMemory>(context, address, bytes);
    } catch (...) {
        context->driver().memory_free(address);
        throw;
    }
}

DeviceMemory::~DeviceMemory() {
    const Current current(*context_);
    if (current.status().ok()) {
        context_->driver().memory_free(address_);
    }
}

Status DeviceMemory::copy_from_host(const void *from, size_t bytes, size_t offset) const {
    if (offset > bytes_ || bytes > bytes_ - offset) {
        return invalid("{} bytes from {} on leave a buffer of {} bytes", bytes, offset, bytes_);
    }
    const Current current(*context_);
    const Driver &driver = context_->driver();
    Status status = current.status();
    if (status.ok() && bytes > 0) {
        status = status_of(driver, driver.copy_to_device(address_ + offset, from, bytes), "cuMemcpyHtoD");
    }
    // The copy may still be on its way from a staging buffer, and streams may be of the kind that does not wait for it.
    return status.ok() ? status_of(driver, driver.stream_synchronize(nullptr), "cuStreamSynchronize") : status;
}

Status DeviceMemory::copy_to_host(void *to, size_t bytes, size_t offset) const {
    if (offset > bytes_ || bytes > bytes_ - offset) {
        return invalid("{} bytes from {} on leave a buffer of {} bytes", bytes, offset, bytes_);
    }
    const Current current(*context_);
    if (!current.status().ok() || bytes == 0) {
        return current.status();
    }
    return status_of(context_->driver(), context_->driver().copy_to_host(to, address_ + offset, bytes), "cuMemcpyDtoH");
}

Result<std::shared_ptr<const DeviceMemory>> upload(const std::shared_ptr<const Context> &context, const void *data, size_t bytes) {
    Result<std::shared_ptr<DeviceMemory>> memory = DeviceMemory::allocate(context, bytes);
    if (!memory.ok()) {
        return memory.status();
    }
    if (Status status = (*memory)->copy_from_host(data, bytes); !status) {
        return status;
    }
    return std::shared_ptr<const DeviceMemory>(std::move(*memory));
}

namespace {

// The host's values stay alive with the device's copy, so that an address names the same values for as long as it lives.
struct Copy {
    std::shared_ptr<const void> owner;
    std::shared_ptr<const DeviceMemory> memory;
};

}  // namespace

Result<std::shared_ptr<const DeviceMemory>> shared_upload(const std::shared_ptr<const Context> &context, std::shared_ptr<const void> owner, const void *data,
                                                          size_t bytes) {
    using Key = std::pair<const Context *, const void *>;
    static std::mutex &mutex = *new std::mutex;
    static auto &copies = *new std::map<Key, std::weak_ptr<const Copy>>;
    const std::lock_guard lock(mutex);
    std::erase_if(copies, [](const auto &entry) { return entry.second.expired(); });
    std::weak_ptr<const Copy> &known = copies[{context.get(), data}];
    std::shared_ptr<const Copy> copy = known.lock();
    if (!copy) {
        Result<std::shared_ptr<const DeviceMemory>> memory = upload(context, data, bytes);
        if (!memory.ok()) {
            return memory.status();
        }
        copy = std::make_shared<const Copy>(Copy{std::move(owner), std::move(*memory)});
        known = copy;
    }
    return std::shared_ptr<const DeviceMemory>(copy, copy->memory.get());
}

namespace {

Address address_of(const View &view) {
    return reinterpret_cast<Address>(view.data);
}

// Calls visit(from, to) for every pair of planes: the first two axes of views of any rank.
template<class Visit>
Status for_planes(const View &from, const View &to, const Visit &visit) {
    if (to.rank <= 2) {
        return visit(from, to);
    }
    for (int64_t index = 0; index < to.extent(to.rank - 1); index++) {
        if (Status status = for_planes(from.pick(to.rank - 1, index), to.pick(to.rank - 1, index), visit); !status) {
            return status;
        }
    }
    return {};
}

bool empty(const View &view) {
    return std::any_of(view.axes.begin(), view.axes.begin() + view.rank, [](const Axis &axis) { return axis.extent == 0; });
}

bool dense(const View &view) {
    int64_t stride = 1;
    for (int axis = 0; axis < view.rank; axis++) {
        if (view.extent(axis) != 1 && view.axes[axis].stride != stride) {
            return false;
        }
        stride *= view.extent(axis);
    }
    return true;
}

int64_t elements_of(const View &view) {
    int64_t count = 1;
    for (int axis = 0; axis < view.rank; axis++) {
        count *= view.extent(axis);
    }
    return count;
}

Status copy_plane(const Context &context, void *stream, const View &from, const View &to) {
    const Driver &driver = context.driver();
    const auto size = static_cast<int64_t>(size_bytes(to.dtype));
    const int64_t width = to.extent(0), rows = to.rank > 1 ? to.extent(1) : 1;
    const int64_t source_pitch = from.rank > 1 ? from.axes[1].stride : width, target_pitch = to.rank > 1 ? to.axes[1].stride : width;
    const bool by_elements = width > 1 && from.axes[0].stride != 1;
    if (!by_elements && (rows == 1 || (source_pitch >= width && target_pitch >= width))) {
        const auto bytes = static_cast<size_t>(width * size);
        const Copy2D copy{.source = address_of(from),
                          .source_pitch = rows == 1 ? bytes : static_cast<size_t>(source_pitch * size),
                          .target = address_of(to),
                          .target_pitch = rows == 1 ? bytes : static_cast<size_t>(target_pitch * size),
                          .width_bytes = bytes,
                          .height = static_cast<size_t>(rows)};
        return status_of(driver, driver.copy_2d(&copy, stream), "cuMemcpy2DAsync");
    }
    // A source with strides of 0.
    const int64_t part = by_elements ? 1 : width;
    for (int64_t row = 0; row < rows; row++) {
        for (int64_t at = 0; at < width; at += part) {
            const Address source = address_of(from) + static_cast<Address>((row * source_pitch + at * from.axes[0].stride) * size);
            const Address target = address_of(to) + static_cast<Address>((row * target_pitch + at) * size);
            if (Status status = status_of(driver, driver.copy(target, source, static_cast<size_t>(part * size), stream), "cuMemcpyDtoDAsync"); !status) {
                return status;
            }
        }
    }
    return {};
}

}  // namespace

Status copy_elements(const Context &context, void *stream, const View &from, const View &to) {
    if (empty(to)) {
        return {};
    }
    if (dense(from) && dense(to)) {
        const size_t bytes = static_cast<size_t>(elements_of(to)) * size_bytes(to.dtype);
        return status_of(context.driver(), context.driver().copy(address_of(to), address_of(from), bytes, stream), "cuMemcpyDtoDAsync");
    }
    return for_planes(from, to, [&](const View &source, const View &target) { return copy_plane(context, stream, source, target); });
}

Status fill_words(const Context &context, void *stream, const View &to, uint32_t value) {
    const Driver &driver = context.driver();
    const auto fill = [&](const View &part, int64_t count) {
        return status_of(driver, driver.fill_words(address_of(part), value, static_cast<size_t>(count), stream), "cuMemsetD32Async");
    };
    if (empty(to)) {
        return {};
    }
    if (dense(to)) {
        return fill(to, elements_of(to));
    }
    return for_planes(to, to, [&](const View &plane, const View &) {
        for (int64_t row = 0; row < (plane.rank > 1 ? plane.extent(1) : 1); row++) {
            if (Status status = fill(plane.rank > 1 ? plane.pick(1, row) : plane, plane.extent(0)); !status) {
                return status;
            }
        }
        return Status();
    });
}

}  // namespace moa::cuda
