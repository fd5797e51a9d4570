#include "tests/failing_memory.h"

#include <cstddef>
#include <cstdlib>
#include <malloc.h>
#include <new>

namespace moa::tests::memory {
namespace {

void *take(size_t size, size_t alignment) noexcept {
    if (plot.left == 0) {
        plot.failed = true;
        plot.left = plot.fails == Fails::always ? 0 : -1;
        return nullptr;
    }
    plot.left -= plot.left > 0 ? 1 : 0;
    void *memory = alignment <= alignof(std::max_align_t) ? std::malloc(size) : std::aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
    if (memory != nullptr) {
        blocks++;
        const int64_t now = bytes += static_cast<int64_t>(malloc_usable_size(memory));
        for (int64_t seen = most; now > seen && !most.compare_exchange_weak(seen, now);) {
        }
    }
    return memory;
}
void *take_or_throw(size_t size, size_t alignment) {
    void *memory = take(size, alignment);
    if (memory == nullptr) {
        throw std::bad_alloc();
    }
    return memory;
}
void give(void *memory) noexcept {
    if (memory != nullptr) {
        blocks--;
        bytes -= static_cast<int64_t>(malloc_usable_size(memory));
        std::free(memory);
    }
}

}  // namespace
}  // namespace moa::tests::memory

void *operator new(size_t size) {
    return moa::tests::memory::take_or_throw(size, 1);
}
void *operator new[](size_t size) {
    return moa::tests::memory::take_or_throw(size, 1);
}
void *operator new(size_t size, std::align_val_t alignment) {
    return moa::tests::memory::take_or_throw(size, static_cast<size_t>(alignment));
}
void *operator new(size_t size, const std::nothrow_t &) noexcept {
    return moa::tests::memory::take(size, 1);
}
void *operator new(size_t size, std::align_val_t alignment, const std::nothrow_t &) noexcept {
    return moa::tests::memory::take(size, static_cast<size_t>(alignment));
}
void operator delete(void *memory) noexcept {
    moa::tests::memory::give(memory);
}
void operator delete[](void *memory) noexcept {
    moa::tests::memory::give(memory);
}
void operator delete(void *memory, size_t) noexcept {
    moa::tests::memory::give(memory);
}
void operator delete[](void *memory, size_t) noexcept {
    moa::tests::memory::give(memory);
}
void operator delete(void *memory, std::align_val_t) noexcept {
    moa::tests::memory::give(memory);
}
void operator delete(void *memory, size_t, std::align_val_t) noexcept {
    moa::tests::memory::give(memory);
}
void operator delete(void *memory, const std::nothrow_t &) noexcept {
    moa::tests::memory::give(memory);
}
void operator delete(void *memory, std::align_val_t, const std::nothrow_t &) noexcept {
    moa::tests::memory::give(memory);
}
