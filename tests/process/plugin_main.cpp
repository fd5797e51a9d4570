#include <cstdio>
#include <dlfcn.h>

// plugin_program PLUGIN: its workers outlive dlclose, so their code must, too.
namespace {

using Loop = int (*)(int);

bool load_loop_and_close(const char *path) {
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    const auto loop = library == nullptr ? nullptr : reinterpret_cast<Loop>(dlsym(library, "loop_in_plugin"));
    if (loop == nullptr) {
        std::printf("%s\n", dlerror());
        return false;
    }
    const bool whole = loop(1000) == 1000;
    return dlclose(library) == 0 && whole;
}

}  // namespace

int main(int argc, char **argv) {
    for (int round = 0; round < 3; round++) {
        if (argc != 2 || !load_loop_and_close(argv[1])) {
            std::puts("the plugin's loop failed");
            return 1;
        }
        if (dlopen(argv[1], RTLD_NOW | RTLD_NOLOAD) == nullptr) {
            std::puts("the plugin is gone, and its workers run its code");
            return 1;
        }
    }
    std::puts("stays loaded");
    return 0;
}
