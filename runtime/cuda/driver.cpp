#include "runtime/cuda/driver.h"

#include "runtime/process.h"
#include "runtime/text.h"

#include <atomic>
#include <dlfcn.h>
#include <memory>
#include <string>

namespace moa::cuda {

namespace {

struct Opened {
    Driver functions;
    Status status;
};

Status find_functions(void *library, Driver &driver) {
#define MOA_FIND(member, name, parameters)                                                  \
    driver.member = reinterpret_cast<decltype(driver.member)>(dlsym(library, name));        \
    if (driver.member == nullptr) {                                                         \
        return {Code::unsupported, text("the CUDA driver is too old: it has no {}", name)}; \
    }
    MOA_CUDA_FUNCTIONS(MOA_FIND)
#undef MOA_FIND
#define MOA_FIND(member, name, parameters) driver.member = reinterpret_cast<decltype(driver.member)>(dlsym(library, name));
    MOA_CUDA_LATE_FUNCTIONS(MOA_FIND)
#undef MOA_FIND
    return {};
}

constexpr std::string_view kStubText =
    "libcuda.so is the CUDA toolkit's stub, which is there to link with and drives no GPU: the driver's own libcuda.so.1 must come before it on the library path "
    "(LD_LIBRARY_PATH)";

Status init(void *library) {
    const auto call = reinterpret_cast<decltype(Driver::init)>(dlsym(library, "cuInit"));
    const Result_t error = call != nullptr ? call(0) : 0;
    if (error == kStub) {
        return {Code::unsupported, std::string(kStubText)};
    }
    Driver driver;
    Status found = find_functions(library, driver);
    if (!found.ok() || error == 0) {
        return found;
    }
    std::string message = text("the CUDA driver finds no device it can use: {}", error_text(driver, error, "cuInit"));
    if (error == kNotInitialized) {
        message += "; a child of fork() cannot use CUDA if its parent has";
    }
    return {Code::unsupported, std::move(message)};
}

Status open(Driver &driver) {
    // Drivers install the first name; the second comes with the toolkit's stubs and some containers.
    void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    std::string why;
    if (library == nullptr) {
        const char *message = dlerror();
        why = message != nullptr ? message : "";
        library = dlopen("libcuda.so", RTLD_NOW | RTLD_LOCAL);
    }
    if (library == nullptr) {
        return {Code::unsupported, text("there is no CUDA driver: libcuda.so.1 cannot be opened ({})", why)};
    }
    Status status = init(library);
    status = status.ok() ? find_functions(library, driver) : status;
    status = status.ok() ? status_of(driver, driver.driver_version(&driver.version), "cuDriverGetVersion") : status;
    return status.ok() ? status_of(driver, driver.device_count(&driver.devices), "cuDeviceGetCount") : status;
}

// Of the process that opened the driver first, or is at it: its generation + 1.
constinit std::atomic<uint32_t> opener{0};
constinit std::atomic<const Opened *> opened{nullptr};

}  // namespace

Status check_process() {
    const uint32_t first = opener.load();
    if (first == 0 || first == fork_generation() + 1) {
        return {};
    }
    return {Code::device_error, "this process is a child of fork(), and its parent has opened the CUDA driver, which works in the parent only: open it in the child first, or start "
                                "children before it is opened, or with exec"};
}

Result<const Driver *> driver() {
    static constinit Once once;
    uint32_t first = 0;
    opener.compare_exchange_strong(first, fork_generation() + 1);
    const Status here = check_process();
    if (here.ok()) {
        once.call([] {
            auto made = std::make_unique<Opened>();
            made->status = open(made->functions);
            opened = made.release();
            return true;
        });
    }
    // Where there was no driver to open, nothing was left behind.
    const Opened *result = opened.load();
    if (result != nullptr && !result->status.ok()) {
        return result->status;
    }
    if (!here.ok()) {
        return here;
    }
    return &result->functions;
}

std::string error_text(const Driver &driver, Result_t error, std::string_view call) {
    const char *name = nullptr, *description = nullptr;
    if (driver.error_name(error, &name) != 0 || driver.error_text(error, &description) != 0 || name == nullptr || description == nullptr) {
        return text("{}: CUDA error {}", call, error);
    }
    return text("{}: {} ({})", call, name, description);
}

Status status_of(const Driver &driver, Result_t error, std::string_view call) {
    if (error == 0) {
        return {};
    }
    return {error == kOutOfMemory ? Code::out_of_memory : Code::device_error, error_text(driver, error, call)};
}

}  // namespace moa::cuda
