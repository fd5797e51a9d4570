#include "runtime/cuda/context.h"

#include "runtime/cuda/image.h"
#include "runtime/ops_absent.h"
#include "runtime/text.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <map>

namespace moa::cuda {

namespace {

constexpr int kLeastCapability = 80;

std::string version_text(int version) {
    return text("{}.{}", version / 1000, version % 1000 / 10);
}

// Loads one image; a compiler's complaint becomes part of the message.
Status load(const Driver &driver, const Image &image, void **module) {
    std::array<char, 2048> log{};
    std::array<int, 2> names{kErrorLog, kErrorLogBytes};
    std::array<void *, 2> values{log.data(), reinterpret_cast<void *>(log.size() - 1)};
    const Result_t error = driver.module_load(module, image.data.data(), names.size(), names.data(), values.data());
    if (error == 0) {
        return {};
    }
    std::string message = error_text(driver, error, image.sm == 0 ? "compiling PTX" : "loading machine code");
    if (image.sm == 0 && error == kUnsupportedPtx) {
        message += text("; the driver (CUDA {}) is too old for PTX {}", version_text(driver.version), ptx_version(image.data.data()));
    }
    if (log[0] != '\0') {
        message += text("; {}", log.data());
    }
    return {error == kOutOfMemory ? Code::out_of_memory : Code::unsupported, message};
}

// Kernels are known by the PTX's text; a bundle without PTX is asked through the driver, if that can be.
Result<std::vector<std::string>> kernel_names(const Driver &driver, std::span<const Image> images, void *module) {
    for (const Image &image : images) {
        if (image.sm == 0) {
            return kernels_of(image.data.data());
        }
    }
    if (driver.module_function_count == nullptr || driver.module_functions == nullptr || driver.function_name == nullptr) {
        return Status(Code::unsupported, text("the driver (CUDA {}) cannot list the kernels of machine code without PTX", version_text(driver.version)));
    }
    unsigned count = 0;
    Status status = status_of(driver, driver.module_function_count(&count, module), "cuModuleGetFunctionCount");
    std::vector<void *> functions(count);
    if (status.ok()) {
        status = status_of(driver, driver.module_functions(functions.data(), count, module), "cuModuleEnumerateFunctions");
    }
    std::vector<std::string> names;
    for (void *function : functions) {
        const char *name = nullptr;
        if (status.ok() && driver.function_name(&name, function) == 0) {
            names.emplace_back(name);
        }
    }
    return status.ok() ? Result<std::vector<std::string>>(std::move(names)) : Result<std::vector<std::string>>(status);
}

// Everything that could otherwise happen at the first launch: loading, and permission for all of the shared memory.
Status add_kernel(const Driver &driver, void *module, const std::string &name, int shared_bytes, std::vector<Kernel> &kernels) {
    Kernel kernel{name, nullptr, 0};
    int fixed = 0;
    Status status = status_of(driver, driver.module_function(&kernel.function, module, name.c_str()), "cuModuleGetFunction");
    if (status.ok() && driver.function_load != nullptr) {
        status = status_of(driver, driver.function_load(kernel.function), "cuFuncLoad");
    }
    if (status.ok()) {
        status = status_of(driver, driver.function_get(&fixed, kSharedBytes, kernel.function), "cuFuncGetAttribute");
    }
    kernel.shared_limit = std::max(shared_bytes - fixed, 0);
    if (status.ok()) {
        status = status_of(driver, driver.function_set(kernel.function, kMaxDynamicSharedBytes, kernel.shared_limit), "cuFuncSetAttribute");
    }
    kernels.push_back(std::move(kernel));
    return status;
}

Result<std::unique_ptr<Module>> load_module(const Driver &driver, const DeviceDescription &device, std::span<const char> code) {
    const Result<std::vector<Image>> images = parse_images(code);
    if (!images.ok()) {
        return images.status();
    }
    struct Unload {
        const Driver &driver;
        void operator()(Module *loaded) const {
            if (loaded->handle != nullptr) {
                driver.module_unload(loaded->handle);
            }
            delete loaded;
        }
    };
    std::unique_ptr<Module, Unload> module(new Module, Unload{driver});
    Status status(Code::unsupported, text("no device code for compute capability {}.{}", device.capability / 10, device.capability % 10));
    for (const Image &image : images_for(*images, device.capability)) {
        if (status = load(driver, image, &module->handle); status.ok()) {
            break;
        }
        module->handle = nullptr;
    }
    if (!status.ok()) {
        return status;
    }
    const Result<std::vector<std::string>> names = kernel_names(driver, *images, module->handle);
    status = names.status();
    for (size_t index = 0; status.ok() && index < names->size(); index++) {
        status = add_kernel(driver, module->handle, (*names)[index], device.shared_bytes, module->kernels);
    }
    return status.ok() ? Result<std::unique_ptr<Module>>(std::unique_ptr<Module>(module.release())) : Result<std::unique_ptr<Module>>(status);
}

// Contexts are told apart by their number, since a destroyed one's address may come back.
uint64_t identity(const Driver &driver, void *handle) {
    unsigned long long id = 0;
    if (driver.context_id != nullptr && driver.context_id(handle, &id) == 0) {
        return id;
    }
    return reinterpret_cast<uintptr_t>(handle);
}

Status find_handle(const Driver &driver, int index, void **handle) {
    int device = -1;
    if (driver.context_current(handle) == 0 && *handle != nullptr && driver.context_device(&device) == 0 && device == index) {
        return {};
    }
    return status_of(driver, driver.primary_retain(handle, index), "cuDevicePrimaryCtxRetain");
}

}  // namespace

const Kernel *Module::find(const char *name) const {
    for (const Kernel &kernel : kernels) {
        if (kernel.name == name) {
            return &kernel;
        }
    }
    return nullptr;
}

Result<DeviceDescription> describe(const Driver &driver, int index) {
    if (index < 0 || index >= driver.devices) {
        return Status(Code::not_found, text("there is no device cuda:{}: the driver knows {} device{}", index, driver.devices, driver.devices == 1 ? "" : "s"));
    }
    DeviceDescription device{.device = {DeviceType::cuda, index}};
    std::array<char, 256> name{};
    int handle = 0, major = 0, minor = 0;
    size_t bytes = 0;
    const auto ask = [&](int attribute, int *value) { return driver.device_attribute(value, attribute, handle); };
    Result_t error = driver.device_get(&handle, index);
    error = error != 0 ? error : driver.device_name(name.data(), static_cast<int>(name.size()) - 1, handle);
    error = error != 0 ? error : driver.device_memory(&bytes, handle);
    error = error != 0 ? error : ask(kCapabilityMajor, &major);
    error = error != 0 ? error : ask(kCapabilityMinor, &minor);
    error = error != 0 ? error : ask(kMultiprocessors, &device.cores);
    error = error != 0 ? error : ask(kSharedBytesOptin, &device.shared_bytes);
    if (error != 0) {
        return status_of(driver, error, text("asking about cuda:{}", index));
    }
    device.name = name.data();
    device.capability = 10 * major + minor;
    device.memory_bytes = static_cast<int64_t>(bytes);
    if (device.capability < kLeastCapability) {
        return Status(Code::unsupported, text("cuda:{} ({}) has compute capability {}.{}; 8.0 or higher is needed", index, device.name, major, minor));
    }
    return device;
}

Result<std::shared_ptr<const Context>> Context::of(const Device &device) {
    const Result<const Driver *> functions = cuda::driver();
    if (!functions.ok()) {
        return Status(functions.status().code(), text("{}: {}", name_of(device), functions.status().message()));
    }
    Result<DeviceDescription> description = describe(**functions, device.index);
    if (!description.ok()) {
        return description.status();
    }
    // Never destroyed: plans that outlive main's statics may still free what they hold.
    static std::mutex &mutex = *new std::mutex;
    static auto &contexts = *new std::map<std::pair<int, uint64_t>, std::shared_ptr<Context>>;
    const std::lock_guard lock(mutex);
    void *handle = nullptr;
    if (Status status = find_handle(**functions, device.index, &handle); !status) {
        return status;
    }
    std::shared_ptr<Context> &context = contexts[{device.index, identity(**functions, handle)}];
    if (!context) {
        auto made = std::make_shared<Context>(**functions, handle, std::move(*description));
        if (Status status = made->make_constants(); !status) {
            return status;
        }
        context = std::move(made);
    }
    return std::shared_ptr<const Context>(context);
}

Status Context::make_constants() {
    const Current current(*this);
    Status status = current.status();
    if (status.ok()) {
        status = status_of(driver_, driver_.memory_allocate(&absent_, sizeof ops::kAbsent), "cuMemAlloc");
    }
    if (status.ok()) {
        status = status_of(driver_, driver_.copy_to_device(absent_, &ops::kAbsent, sizeof ops::kAbsent), "cuMemcpyHtoD");
    }
    return status.ok() ? status_of(driver_, driver_.stream_synchronize(nullptr), "cuStreamSynchronize") : status;
}

Result<const Module *> Context::module(const char *code, size_t bytes) const {
    {
        const std::shared_lock lock(mutex_);
        if (const auto found = modules_.find(code); found != modules_.end()) {
            return found->second.get();
        }
    }
    const std::unique_lock lock(mutex_);
    if (const auto found = modules_.find(code); found != modules_.end()) {
        return found->second.get();
    }
    // The place first: nothing that is loaded is lost for want of memory to note it. Null is never left there.
    const auto place = modules_.emplace(code, nullptr).first;
    try {
        Result<std::unique_ptr<Module>> loaded = load_module(driver_, description_, {code, bytes});
        if (!loaded.ok()) {
            modules_.erase(place);
            return loaded.status();
        }
        place->second = std::move(*loaded);
        return place->second.get();
    } catch (...) {
        modules_.erase(place);
        throw;
    }
}

Current::Current(const Context &context)
    : context_(context), status_(check_process()) {
    if (!status_.ok()) {
        return;
    }
    void *now = nullptr;
    const Driver &driver = context.driver();
    if (driver.context_current(&now) == 0 && now == context.handle()) {
        return;
    }
    status_ = status_of(driver, driver.context_push(context.handle()), "cuCtxPushCurrent");
    pushed_ = status_.ok();
}

Current::~Current() {
    if (pushed_) {
        void *popped = nullptr;
        context_.driver().context_pop(&popped);
    }
}

}  // namespace moa::cuda
