#include "runtime/worker_thread.h"

#include "runtime/float_environment.h"

#include <dlfcn.h>
#include <link.h>
#include <sched.h>
#include <unistd.h>

namespace moa {

namespace {

// A plugin or shared library that holds this code must not be unloaded under its workers: dlclose leaves it where it is.
void stay_loaded() {
    Dl_info where{};
    link_map *object = nullptr;
    const bool found = dladdr1(reinterpret_cast<const void *>(&stay_loaded), &where, reinterpret_cast<void **>(&object), RTLD_DL_LINKMAP) != 0;
    if (found && object != nullptr && object->l_name[0] != '\0') {  // the program itself has no name, and stays
        (void)dlopen(object->l_name, RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE);
    }
}

// Signals are the program's business: it may block them, take them from a descriptor, or have handlers that expect its own
// threads. Those that a thread's own instructions raise cannot wait: the program may have a handler that mends page faults.
sigset_t workers_mask() {
    sigset_t mask;
    sigfillset(&mask);
    for (const int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS}) {
        sigdelset(&mask, fault);
    }
    return mask;
}

}  // namespace

WorkerMaker::WorkerMaker(const CoreSet &cores, size_t stack_bytes)
    : has_attributes_(pthread_attr_init(&attributes_) == 0) {
    stay_loaded();
    const sigset_t mask = workers_mask();
    pthread_sigmask(SIG_SETMASK, &mask, &callers_mask_);
    if (has_attributes_) {
        (void)pthread_attr_setdetachstate(&attributes_, PTHREAD_CREATE_DETACHED);
        (void)pthread_attr_setstacksize(&attributes_, stack_bytes);
        if (cores.count() > 0) {
            (void)pthread_attr_setaffinity_np(&attributes_, sizeof cores.words, reinterpret_cast<const cpu_set_t *>(cores.words.data()));
        }
    }
}

WorkerMaker::~WorkerMaker() {
    pthread_sigmask(SIG_SETMASK, &callers_mask_, nullptr);
    if (has_attributes_) {
        pthread_attr_destroy(&attributes_);
    }
}

bool WorkerMaker::make(void *(*body)(void *), void *argument) {
    pthread_t thread{};
    if (has_attributes_ && pthread_create(&thread, &attributes_, body, argument) == 0) {
        return true;
    }
    // The program's thread-local variables may leave nothing of such a stack, and cores may have gone meanwhile.
    if (pthread_create(&thread, nullptr, body, argument) != 0) {
        return false;
    }
    pthread_detach(thread);
    return true;
}

pid_t settle_worker() {
    FloatEnvironment::set_own();
    (void)pthread_setname_np(pthread_self(), "moa worker");
    sched_param parameters{};
    const pid_t main = getpid();
    const int policy = sched_getscheduler(main);
    if (policy >= 0 && sched_getparam(main, &parameters) == 0) {
        (void)sched_setscheduler(0, policy, &parameters);
    }
    return gettid();
}

void place_worker(pid_t thread, const CoreSet &cores) {
    if (thread > 0 && cores.count() > 0) {
        (void)sched_setaffinity(thread, sizeof cores.words, reinterpret_cast<const cpu_set_t *>(cores.words.data()));
    }
}

}  // namespace moa
