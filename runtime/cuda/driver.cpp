#include "runtime/cuda/driver.h"

#include "runtime/text.h"

#include <dlfcn.h>
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
    if (Status status = find_functions(library, driver); !status) {
        return status;
    }
    if (const Result_t error = driver.init(0); error != 0) {
        return {Code::unsupported, text("the CUDA driver finds no device it can use: {}", error_text(driver, error, "cuInit"))};
    }
    if (Status status = status_of(driver, driver.driver_version(&driver.version), "cuDriverGetVersion"); !status) {
        return status;
    }
    return status_of(driver, driver.device_count(&driver.devices), "cuDeviceGetCount");
}

}  // namespace

Result<const Driver *> driver() {
    static const Opened opened = [] {
        Opened made;
        made.status = open(made.functions);
        return made;
    }();
    if (!opened.status.ok()) {
        return opened.status;
    }
    return &opened.functions;
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
