#pragma once

#include "moa/device.h"
#include "moa/status.h"
#include "runtime/cuda/driver.h"

#include <cstdint>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <unordered_map>
#include <vector>

namespace moa::cuda {

class DeviceMemory;

struct Kernel {
    std::string name;
    void *function = nullptr;
    int shared_limit = 0;  // dynamic shared memory that a launch may ask for
};

// The loaded device code of one row.
struct Module {
    void *handle = nullptr;
    std::vector<Kernel> kernels;

    const Kernel *find(const char *name) const;
};

// A driver context on one device, with what is loaded into it. Lives until the process ends: the driver frees what is
// in it then, or when the caller's own context is destroyed.
class Context : public std::enable_shared_from_this<Context> {
public:
    // The calling thread's current context if it is one on that device, else the device's primary context.
    static Result<std::shared_ptr<const Context>> of(const Device &device);

    Context(const Driver &functions, void *handle, DeviceDescription description)
        : driver_(functions), handle_(handle), description_(std::move(description)) {
    }
    Context(const Context &) = delete;
    Context &operator=(const Context &) = delete;

    const Driver &driver() const {
        return driver_;
    }
    void *handle() const {
        return handle_;
    }
    const DeviceDescription &description() const {
        return description_;
    }

    // The module of a row's device code, loaded at the first call. The context must be current.
    Result<const Module *> module(const char *code, size_t bytes) const;
    // The device's copy of the constants that absent arguments point to (runtime/ops.h).
    Address absent() const {
        return absent_;
    }

private:
    Status make_constants();

    const Driver &driver_;
    void *handle_;
    DeviceDescription description_;
    Address absent_ = 0;
    mutable std::shared_mutex mutex_;
    mutable std::unordered_map<const char *, std::unique_ptr<const Module>> modules_;
};

// Makes a context the thread's current one, for as long as this lives.
class Current {
public:
    explicit Current(const Context &context);
    ~Current();
    Current(const Current &) = delete;
    Current &operator=(const Current &) = delete;

    const Status &status() const {
        return status_;
    }

private:
    const Context &context_;
    bool pushed_ = false;
    Status status_;
};

Result<DeviceDescription> describe(const Driver &driver, int index);

}  // namespace moa::cuda
