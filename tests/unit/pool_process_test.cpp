#include "runtime/float_environment.h"
#include "runtime/thread_pool.h"
#include "runtime/worker_thread.h"
#include "tests/child.h"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cfenv>
#include <chrono>
#include <csignal>
#include <functional>
#include <mutex>
#include <pthread.h>
#include <sched.h>
#include <sys/resource.h>
#include <thread>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

// The pool of threads in processes that fork, block signals, pin their threads and set floating-point state.
namespace moa {

namespace {

using tests::end_of_child;

constexpr int kWorkers = 2;

template<class Body>
int for_each(int threads, int count, Body body) {
    return ThreadPool::instance().parallel_for(
        threads, count, [](void *context, int index) { return (*static_cast<Body *>(context))(index); }, &body);
}

// Calls look() on kWorkers workers at once; false if so many did not come within a minute.
bool on_workers(const std::function<void()> &look) {
    std::atomic<int> present{0}, seen{0};
    const auto until = std::chrono::steady_clock::now() + std::chrono::minutes(1);
    for_each(kWorkers + 1, kWorkers + 1, [&](int) {
        present++;
        while (present < kWorkers + 1 && std::chrono::steady_clock::now() < until) {
            std::this_thread::yield();
        }
        if (ThreadPool::current_slot() != 0) {
            look();
            seen++;
        }
        return 0;
    });
    return seen == kWorkers;
}

TEST(PoolProcess, WorkersTakeNoSignals) {
    sigset_t none, before;
    sigemptyset(&none);
    pthread_sigmask(SIG_SETMASK, &none, &before);
    std::atomic<int> taken{0}, faults{0};
    EXPECT_TRUE(on_workers([&] {
        sigset_t mask;
        pthread_sigmask(SIG_BLOCK, nullptr, &mask);
        for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGALRM, SIGPROF, SIGCHLD, SIGUSR1, SIGUSR2, SIGPIPE, SIGABRT, SIGRTMIN, SIGRTMAX}) {
            taken += sigismember(&mask, signal) == 1 ? 0 : 1;
        }
        for (const int signal : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP}) {
            faults += sigismember(&mask, signal) == 0 ? 1 : 0;
        }
    }));
    EXPECT_EQ(taken, 0);
    EXPECT_EQ(faults, 5 * kWorkers) << "a handler of faults must work on workers, too";
    sigset_t after;
    pthread_sigmask(SIG_SETMASK, &before, &after);
    EXPECT_EQ(sigismember(&after, SIGTERM), 0) << "the caller's mask is as it was";
}

// An event loop that takes SIGTERM from a blocked mask, set before or after there are workers.
TEST(PoolProcess, ASignalThatTheProgramBlocksWaitsForIt) {
    for (const bool workers_first : {false, true}) {
        EXPECT_EQ(end_of_child([&] {
                      sigset_t set;
                      sigemptyset(&set);
                      sigaddset(&set, SIGTERM);
                      if (workers_first && tests::kForkedThreads && !on_workers([] {})) {
                          return 1;
                      }
                      pthread_sigmask(SIG_BLOCK, &set, nullptr);
                      if (!workers_first && tests::kForkedThreads && !on_workers([] {})) {
                          return 2;
                      }
                      kill(getpid(), SIGTERM);
                      int signal = 0;
                      return sigwait(&set, &signal) == 0 && signal == SIGTERM ? 0 : 3;
                  }),
                  "exit 0")
            << workers_first;
    }
}

TEST(PoolProcess, WorkersHaveTheLibrarysFloatingPointState) {
    std::fenv_t before;
    std::fegetenv(&before);
    std::fesetround(FE_UPWARD);
#if defined(__x86_64__)
    _mm_setcsr(_mm_getcsr() | 0x8040);  // flush to zero, denormals are zero
#endif
    std::atomic<int> others{0};
    const bool present = on_workers([&] {
        others += std::fegetround() == FE_TONEAREST && fegetexcept() == 0 ? 0 : 1;
#if defined(__x86_64__)
        others += (_mm_getcsr() & 0xffc0U) == 0x1f80U ? 0 : 1;
#endif
    });
    std::fesetenv(&before);
    EXPECT_TRUE(present);
    EXPECT_EQ(others, 0);
}

TEST(FloatEnvironment, IsTheLibrarysAndThenTheCallersAgain) {
    std::fenv_t before;
    std::fegetenv(&before);
    std::feclearexcept(FE_ALL_EXCEPT);
    std::fesetround(FE_DOWNWARD);
    std::feraiseexcept(FE_UNDERFLOW);
    feenableexcept(FE_DIVBYZERO | FE_INVALID);
#if defined(__x86_64__)
    _mm_setcsr(_mm_getcsr() | 0x8040);
    const unsigned callers = _mm_getcsr();
#endif
    {
        const FloatEnvironment own;
        EXPECT_EQ(std::fegetround(), FE_TONEAREST);
        EXPECT_EQ(fegetexcept(), 0);
        volatile float zero = 0, tiny = 1e-38F;
        EXPECT_GT(1 / zero, 1);
        EXPECT_GT(tiny / 16, 0) << "denormals are kept";
    }
    EXPECT_EQ(std::fegetround(), FE_DOWNWARD);
    EXPECT_EQ(fegetexcept(), FE_DIVBYZERO | FE_INVALID);
    EXPECT_EQ(std::fetestexcept(FE_ALL_EXCEPT), FE_UNDERFLOW);
#if defined(__x86_64__)
    EXPECT_EQ(_mm_getcsr(), callers);
#endif
    std::fesetenv(&before);
}

CoreSet own_cores() {
    CoreSet cores;
    EXPECT_EQ(sched_getaffinity(0, sizeof cores.words, reinterpret_cast<cpu_set_t *>(cores.words.data())), 0);
    return cores;
}

CoreSet first_of(const CoreSet &cores) {
    CoreSet one;
    for (size_t word = 0; word < cores.words.size(); word++) {
        if (cores.words[word] != 0) {
            one.words[word] = cores.words[word] & -cores.words[word];
            break;
        }
    }
    return one;
}

bool workers_have(const CoreSet &cores) {
    std::atomic<int> others{0};
    return on_workers([&] { others += own_cores() == cores ? 0 : 1; }) && others == 0;
}

TEST(PoolProcess, WorkersOfAPinnedThreadHaveTheProcesssCores) {
    const CoreSet all = own_cores();
    if (all.count() < 2) {
        GTEST_SKIP() << "needs two cores";
    }
    std::thread([&] {
        place_worker(gettid(), first_of(all));
        EXPECT_EQ(own_cores(), first_of(all));
        EXPECT_TRUE(workers_have(all));
    }).join();
    EXPECT_TRUE(workers_have(all));
}

TEST(PoolProcess, WorkersFollowTheProcess) {
    const CoreSet all = own_cores();
    if (all.count() < 2) {
        GTEST_SKIP() << "needs two cores";
    }
    if (!tests::kForkedThreads) {
        GTEST_SKIP() << "ThreadSanitizer has a thread of its own, which no affinity of main's changes";
    }
    place_worker(getpid(), first_of(all));
    ThreadPool::instance().follow_process();  // workers of other tests, if they ran in this process
    EXPECT_TRUE(workers_have(first_of(all)));
    EXPECT_EQ(usable_cores(), 1);
    place_worker(getpid(), all);
    ThreadPool::instance().follow_process();
    EXPECT_TRUE(workers_have(all));
    place_worker(getpid(), first_of(all));  // workers do not keep the process's old cores alive
    EXPECT_EQ(usable_cores(), 1);
    ThreadPool::instance().follow_process();
    EXPECT_TRUE(workers_have(first_of(all)));
}

TEST(PoolProcess, ChildrenOfForkHaveWorkersOfTheirOwn) {
    if (!tests::kForkedThreads) {
        GTEST_SKIP() << "ThreadSanitizer ends such children";
    }
    ASSERT_TRUE(on_workers([] {}));
    EXPECT_EQ(end_of_child([] {
                  // And so have theirs.
                  return on_workers([] {}) && end_of_child([] { return on_workers([] {}) ? 0 : 1; }) == "exit 0" ? 0 : 1;
              }),
              "exit 0");
    EXPECT_TRUE(on_workers([] {}));
}

TEST(PoolProcess, ChildrenThatForkBesideLoops) {
    if (!tests::kForkedThreads) {
        GTEST_SKIP() << "ThreadSanitizer ends such children";
    }
    constexpr int kForks = 300, kCallers = 3;
    std::atomic<bool> stop{false};
    std::vector<std::thread> callers;
    callers.reserve(kCallers);
    for (int caller = 0; caller < kCallers; caller++) {
        callers.emplace_back([&] {
            while (!stop) {
                for_each(3, 8, [](int) { return 0; });
            }
        });
    }
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(3);
    for (int fork = 0; fork < kForks && std::chrono::steady_clock::now() < until; fork++) {
        const std::string end = end_of_child([] {
            std::atomic<int> calls{0};
            for_each(3, 20, [&](int) { return calls++, 0; });
            return calls == 20 ? 0 : 1;
        },
                                             20);
        EXPECT_EQ(end, "exit 0") << fork;
        if (end != "exit 0") {
            break;
        }
    }
    stop = true;
    for (std::thread &caller : callers) {
        caller.join();
    }
}

TEST(PoolProcess, GoesOnWithFewerThreadsThanTheSystemHas) {
    if (tests::kSanitized) {
        GTEST_SKIP() << "sanitizers reserve more than the limit";
    }
    EXPECT_EQ(end_of_child([] {
                  const rlimit none{1, 1};  // no address space for another stack
                  if (setrlimit(RLIMIT_AS, &none) != 0) {
                      return 1;
                  }
                  for (int loop = 0; loop < 3; loop++) {
                      std::array<std::atomic<int>, 100> calls{};
                      if (for_each(8, 100, [&](int index) { return calls[static_cast<size_t>(index)]++, 0; }) != 0) {
                          return 2;
                      }
                      for (const auto &call : calls) {
                          if (call != 1) {
                              return 3;
                          }
                      }
                  }
                  return 0;
              }),
              "exit 0");
}

TEST(PoolProcess, WorkersHaveAStackOfKnownSize) {
    std::atomic<int> others{0};
    EXPECT_TRUE(on_workers([&] {
        pthread_attr_t attributes;
        size_t bytes = 0;
        void *begin = nullptr;
        if (pthread_getattr_np(pthread_self(), &attributes) != 0 || pthread_attr_getstack(&attributes, &begin, &bytes) != 0) {
            others++;
            return;
        }
        pthread_attr_destroy(&attributes);
        others += bytes >= ThreadPool::kStackBytes && (tests::kSanitized || bytes <= 2 * ThreadPool::kStackBytes) ? 0 : 1;
    }));
    EXPECT_EQ(others, 0);
}

}  // namespace

}  // namespace moa
