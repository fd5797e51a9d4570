#pragma once

#include <cfenv>

namespace moa {

// The library's own floating-point state, for as long as this lives: to nearest, denormals kept, no exception trapped. Whatever
// the caller has set (flush-to-zero, a rounding mode, feenableexcept) neither changes results nor ends the process, and comes
// back afterwards as it was, flags included. A thread's constructor and destructor calls must nest.
class FloatEnvironment {
public:
    FloatEnvironment() {
        std::fegetenv(&callers_);
        set_own();
    }
    ~FloatEnvironment() {
        std::fesetenv(&callers_);
    }
    FloatEnvironment(const FloatEnvironment &) = delete;
    FloatEnvironment &operator=(const FloatEnvironment &) = delete;

    // For good, on a thread of the library's own.
    static void set_own() {
        std::fesetenv(FE_DFL_ENV);
#if defined(__x86_64__)
        // Denormal operands are not in FE_ALL_EXCEPT, whose traps are all that FE_DFL_ENV takes away.
        __builtin_ia32_ldmxcsr(kDefault);
#endif
    }

private:
    static constexpr unsigned kDefault = 0x1f80;
    std::fenv_t callers_;
};

}  // namespace moa
