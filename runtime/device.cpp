#include "moa/device.h"

#include "runtime/cores.h"
#include "runtime/process.h"

#include <algorithm>
#include <array>
#include <cstring>
#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace moa {

namespace {

constexpr std::array<std::string_view, static_cast<size_t>(CpuFeature::count)> kFeatureNames{
    "sse41", "avx", "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512cd", "avx512dq",
    "avx512vl", "avx512ifma", "avx512vbmi", "avx512vbmi2", "avx512vnni", "avx512bitalg", "avx512vpopcntdq", "avx512bf16",
    "avx512fp16", "avxvnni", "amx_tile", "amx_bf16"};

#if defined(__x86_64__)
// Linux hands out the tiles' registers on request only.
bool tiles_granted() {
    constexpr int kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
    return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

// Features that the compiler's builtins do not know; the operating system saves their registers with AVX-512's.
void add_late_features(CpuFeatures &features) {
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
    if ((features & bit(CpuFeature::avx512f)) == 0 || __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) == 0) {
        return;
    }
    const auto add = [&](bool has, CpuFeature feature) { features |= has ? bit(feature) : 0; };
    const unsigned subleaves = eax;
    add((edx >> 23 & 1) != 0, CpuFeature::avx512fp16);
    const bool tiles = (edx >> 24 & 1) != 0, bf16_tiles = (edx >> 22 & 1) != 0;
    if (tiles && tiles_granted()) {
        add(true, CpuFeature::amx_tile);
        add(bf16_tiles, CpuFeature::amx_bf16);
    }
    if (subleaves >= 1 && __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) != 0) {
        add((eax >> 4 & 1) != 0, CpuFeature::avxvnni);
    }
}

// The compiler's builtins know whether the operating system saves the registers, too.
CpuFeatures host_features() {
    CpuFeatures features = 0;
    const auto add = [&](bool has, CpuFeature feature) { features |= has ? bit(feature) : 0; };
    __builtin_cpu_init();
    add(__builtin_cpu_supports("sse4.1"), CpuFeature::sse41);
    add(__builtin_cpu_supports("avx"), CpuFeature::avx);
    add(__builtin_cpu_supports("avx2"), CpuFeature::avx2);
    add(__builtin_cpu_supports("fma"), CpuFeature::fma);
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
    // Not every compiler's builtin knows f16c, whose registers are those of AVX.
    add(__builtin_cpu_supports("avx") && __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0, CpuFeature::f16c);
    add(__builtin_cpu_supports("avx512f"), CpuFeature::avx512f);
    add(__builtin_cpu_supports("avx512bw"), CpuFeature::avx512bw);
    add(__builtin_cpu_supports("avx512cd"), CpuFeature::avx512cd);
    add(__builtin_cpu_supports("avx512dq"), CpuFeature::avx512dq);
    add(__builtin_cpu_supports("avx512vl"), CpuFeature::avx512vl);
    add(__builtin_cpu_supports("avx512ifma"), CpuFeature::avx512ifma);
    add(__builtin_cpu_supports("avx512vbmi"), CpuFeature::avx512vbmi);
    add(__builtin_cpu_supports("avx512vbmi2"), CpuFeature::avx512vbmi2);
    add(__builtin_cpu_supports("avx512vnni"), CpuFeature::avx512vnni);
    add(__builtin_cpu_supports("avx512bitalg"), CpuFeature::avx512bitalg);
    add(__builtin_cpu_supports("avx512vpopcntdq"), CpuFeature::avx512vpopcntdq);
    add(__builtin_cpu_supports("avx512bf16"), CpuFeature::avx512bf16);
    add_late_features(features);
    return features;
}

std::string host_name() {
    std::array<unsigned, 12> words{};
    unsigned highest = __get_cpuid_max(0x80000000U, nullptr);
    if (highest < 0x80000004U) {
        return "x86-64";
    }
    for (size_t leaf = 0; leaf < 3; leaf++) {
        unsigned *part = &words[4 * leaf];
        __cpuid(0x80000002U + static_cast<unsigned>(leaf), part[0], part[1], part[2], part[3]);
    }
    std::array<char, sizeof words + 1> name{};
    std::memcpy(name.data(), words.data(), sizeof words);
    std::string result(name.data());
    result.erase(result.find_last_not_of(' ') + 1);
    return result.empty() ? "x86-64" : result;
}
#else
CpuFeatures host_features() {
    return 0;
}
std::string host_name() {
    return "cpu";
}
#endif

struct Host {
    CpuFeatures features;
    std::string name;
};

const Host &host() {
    static constinit Once once;
    static constinit const Host *host = nullptr;
    once.call([] {
        host = new Host{host_features(), host_name()};
        return true;
    });
    return *host;
}

}  // namespace

std::string_view name_of(CpuFeature feature) {
    const auto index = static_cast<size_t>(feature);
    return index < kFeatureNames.size() ? kFeatureNames[index] : "unknown";
}

DeviceDescription describe_host() {
    try {
        return {Device{}, host().name, host().features, usable_cores()};
    } catch (...) {  // no memory for a name
        return {Device{}, {}, host_features(), usable_cores()};
    }
}

}  // namespace moa
