#include "tools/peak.h"

#include "moa/device.h"
#include "runtime/thread_pool.h"
#include "tools/timing.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <functional>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace moa::tools {

namespace {

// Chains of multiply-adds that do not wait for each other: latency 4 on 2 units needs 8, and 16 registers hold 10 with
// the two factors.
constexpr int kChains = 10;
constexpr int kRounds = 1 << 16;
constexpr int kRepeats = 5;

// A loop returns something that depends on every chain, so that none is optimised away.
using FmaLoop = float (*)(float factor);

#if defined(__x86_64__)

float loop_sse(float factor) {
    __m128 chain[kChains], scale = _mm_set1_ps(factor), sum = scale;
    std::fill_n(chain, kChains, sum);
    for (int round = 0; round < kRounds; round++) {
#pragma GCC unroll 10
        for (__m128 &part : chain) {
            part = _mm_add_ps(_mm_mul_ps(part, scale), scale);
        }
    }
    for (const __m128 &part : chain) {
        sum = _mm_add_ps(sum, part);
    }
    return _mm_cvtss_f32(sum);
}

__attribute__((target("avx2,fma"))) float loop_avx2(float factor) {
    __m256 chain[kChains], scale = _mm256_set1_ps(factor), sum = scale;
    for (__m256 &part : chain) {
        part = scale;
    }
    for (int round = 0; round < kRounds; round++) {
#pragma GCC unroll 10
        for (__m256 &part : chain) {
            part = _mm256_fmadd_ps(part, scale, scale);
        }
    }
    for (const __m256 &part : chain) {
        sum = _mm256_add_ps(sum, part);
    }
    return _mm256_cvtss_f32(sum);
}

__attribute__((target("avx512f"))) float loop_avx512(float factor) {
    __m512 chain[kChains], scale = _mm512_set1_ps(factor), sum = scale;
    for (__m512 &part : chain) {
        part = scale;
    }
    for (int round = 0; round < kRounds; round++) {
#pragma GCC unroll 10
        for (__m512 &part : chain) {
            part = _mm512_fmadd_ps(part, scale, scale);
        }
    }
    for (const __m512 &part : chain) {
        sum = _mm512_add_ps(sum, part);
    }
    return _mm512_cvtss_f32(sum);
}

__attribute__((target("avx512f,avx512bf16"))) float loop_avx512_bf16(float factor) {
    const __m512 scale = _mm512_set1_ps(factor);
    __m512 chain[kChains], sum = scale;
    __m512bh pairs;
    static_assert(sizeof pairs == sizeof scale);
    std::memcpy(&pairs, &scale, sizeof pairs);
    for (__m512 &part : chain) {
        part = scale;
    }
    for (int round = 0; round < kRounds; round++) {
#pragma GCC unroll 10
        for (__m512 &part : chain) {
            part = _mm512_dpbf16_ps(part, pairs, pairs);
        }
    }
    for (const __m512 &part : chain) {
        sum = _mm512_add_ps(sum, part);
    }
    return _mm512_cvtss_f32(sum);
}

#elif defined(__aarch64__)

float loop_neon(float factor) {
    float32x4_t chain[kChains], scale = vdupq_n_f32(factor), sum = scale;
    std::fill_n(chain, kChains, sum);
    for (int round = 0; round < kRounds; round++) {
#pragma GCC unroll 10
        for (int i = 0; i < kChains; i++) {
            chain[i] = vfmaq_f32(scale, chain[i], scale);
        }
    }
    for (const float32x4_t &part : chain) {
        sum = vaddq_f32(sum, part);
    }
    return vgetq_lane_f32(sum, 0);
}

#endif

double seconds_of(const std::function<void()> &work) {
    const auto begin = std::chrono::steady_clock::now();
    work();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

// The best of a few times of a loop over threads; the first also starts the threads.
template<class Body>
double best_seconds(int threads, Body body) {
    double best = 1e300;
    for (int repeat = 0; repeat <= kRepeats; repeat++) {
        best = std::min(best, seconds_of([&] {
                            ThreadPool::instance().parallel_for(
                                threads, threads, [](void *b, int index) { (*static_cast<Body *>(b))(index); return 0; }, &body);
                        }));
    }
    return best;
}

double rate_of(FmaLoop loop, double flops_per_step, int threads) {
    volatile float factor = 0.5f, result = 0;  // chains settle at 1: no denormal numbers, no infinities
    const float value = factor;
    constexpr int kLoops = 16;
    const double seconds = best_seconds(threads, [&](int index) {
        float sum = 0;
        for (int i = 0; i < kLoops; i++) {
            sum += loop(value);
        }
        if (index == 0) {
            result = sum;
        }
    });
    return flops_per_step * kChains * kRounds * kLoops * threads / seconds;
}

double copy_rate(int threads) {
    constexpr size_t kBytes = size_t{128} << 20;
    const Memory from(kBytes), to(kBytes);
    const size_t share = kBytes / static_cast<size_t>(threads);
    const auto copy = [&](int index) {
        const size_t begin = static_cast<size_t>(index) * share;
        std::memcpy(to.span().data() + begin, from.span().data() + begin, share);
    };
    std::memset(from.span().data(), 1, kBytes);  // else every page is the same page of zeros
    return 2.0 * static_cast<double>(share) * threads / best_seconds(threads, copy);
}

}  // namespace

Peak measure_peak(int threads) {
    Peak peak;
    peak.bytes = copy_rate(threads);
#if defined(__x86_64__)
    const CpuFeatures features = describe_host().features;
    const auto has = [&](CpuFeature feature) { return (features & bit(feature)) != 0; };
    if (has(CpuFeature::avx512f)) {
        peak.flops = rate_of(loop_avx512, 32, threads);
    } else if (has(CpuFeature::avx2) && has(CpuFeature::fma)) {
        peak.flops = rate_of(loop_avx2, 16, threads);
    } else {
        peak.flops = rate_of(loop_sse, 8, threads);
    }
    if (has(CpuFeature::avx512bf16)) {
        peak.bf16_flops = rate_of(loop_avx512_bf16, 64, threads);
    }
#elif defined(__aarch64__)
    peak.flops = rate_of(loop_neon, 8, threads);
#endif
    return peak;
}

}  // namespace moa::tools
