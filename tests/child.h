#pragma once

#include <csignal>
#include <string>
#include <sys/wait.h>
#include <unistd.h>

// Tests of what a process does to the library, or the library to a process, in processes of their own.
namespace moa::tests {

// ThreadSanitizer ends children of fork() that make threads; sanitizers reserve more address space than a limit leaves.
#if defined(__SANITIZE_THREAD__)
constexpr bool kForkedThreads = false;
#else
constexpr bool kForkedThreads = true;
#endif
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

// How a child of fork() that returns from body() ends: "exit 0" if it returned 0. One that hangs is ended by SIGALRM.
template<class Body>
std::string end_of_child(Body body, unsigned seconds = 60) {
    const pid_t child = fork();
    if (child == 0) {
        sigset_t alarm_only;
        sigemptyset(&alarm_only);
        sigaddset(&alarm_only, SIGALRM);
        sigprocmask(SIG_UNBLOCK, &alarm_only, nullptr);
        alarm(seconds);
        _exit(body());
    }
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) != child) {
        return "no child";
    }
    return WIFEXITED(status) ? "exit " + std::to_string(WEXITSTATUS(status)) : "signal " + std::to_string(WTERMSIG(status));
}

}  // namespace moa::tests
