#include "runtime/thread_pool.h"

#include <atomic>

// Loops of the plugin's own threads; how many indices they visited.
extern "C" __attribute__((visibility("default"))) int loop_in_plugin(int count) {
    std::atomic<int> calls{0};
    moa::ThreadPool::instance().parallel_for(
        4, count,
        [](void *context, int) {
            (*static_cast<std::atomic<int> *>(context))++;
            return 0;
        },
        &calls);
    return calls;
}
