#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <string>

namespace moa {

// Numbers of CPUs, as sched_getaffinity writes them.
struct CoreSet {
    static constexpr int kBits = 64;
    std::array<uint64_t, 128> words{};  // 8192: as many as Linux can have

    void add(const CoreSet &other);
    int count() const;
    bool operator==(const CoreSet &) const = default;
};

// CPUs that any thread of the process may run on, without the library's own threads. One thread's affinity, the caller's or
// main's, may be a choice for that thread; what no thread may use was taken from the process (taskset, cpusets). Empty if the
// system does not say.
CoreSet process_cores();

// How many CPUs' time the process's control groups leave it: the least quota of its group and those around it, of cgroup v2
// (cpu.max) and v1 (cpu.cfs_quota_us); infinity without one. `root` stands for / in tests: there, proc/self/cgroup and
// proc/self/mountinfo say where the groups are.
constexpr double kNoQuota = std::numeric_limits<double>::infinity();
double cpu_quota(const std::string &root = "");

// How many threads of the process can run at once: process_cores(), at most the quota rounded up; at least 1.
int usable_cores();
int cores_within(int cores, double quota);

}  // namespace moa
