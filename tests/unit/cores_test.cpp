#include "runtime/cores.h"

#include "moa/device.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sched.h>
#include <string>
#include <thread>

namespace moa {

namespace {

namespace fs = std::filesystem;

// A folder that stands for / of a machine with control groups.
class Quota : public testing::Test {
protected:
    Quota()
        : root_(testing::TempDir() + "moa_quota_" + testing::UnitTest::GetInstance()->current_test_info()->name()) {
        fs::remove_all(root_);
    }
    ~Quota() override {
        fs::remove_all(root_);
    }
    void write(const std::string &path, const std::string &text) const {
        fs::create_directories(fs::path(root_ + path).parent_path());
        std::ofstream(root_ + path) << text;
    }
    void process(const std::string &groups, const std::string &mounts) const {
        write("/proc/self/cgroup", groups);
        write("/proc/self/mountinfo", "22 1 0:20 / / rw - ext4 /dev/sda rw\n" + mounts);
    }
    double quota() const {
        return cpu_quota(root_);
    }

    static constexpr const char *kV2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
    static constexpr const char *kV1 = "31 25 0:27 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
                                       "32 25 0:28 / /sys/fs/cgroup/cpuset rw shared:9 - cgroup cgroup rw,cpuset\n";

private:
    std::string root_;
};

TEST_F(Quota, NoneWithoutControlGroups) {
    EXPECT_EQ(quota(), kNoQuota);
    process("", "");
    EXPECT_EQ(quota(), kNoQuota);
}

TEST_F(Quota, OfVersion2) {
    process("0::/user.slice/job\n", kV2);
    EXPECT_EQ(quota(), kNoQuota);
    write("/sys/fs/cgroup/user.slice/job/cpu.max", "max 100000\n");
    EXPECT_EQ(quota(), kNoQuota);
    write("/sys/fs/cgroup/user.slice/job/cpu.max", "50000 100000\n");
    EXPECT_EQ(quota(), 0.5);
    write("/sys/fs/cgroup/user.slice/job/cpu.max", "250000 100000\n");
    EXPECT_EQ(quota(), 2.5);
}

TEST_F(Quota, TheLeastOfNestedGroupsCounts) {
    process("0::/pod/container/worker\n", kV2);
    write("/sys/fs/cgroup/pod/cpu.max", "300000 100000\n");
    write("/sys/fs/cgroup/pod/container/cpu.max", "150000 100000\n");
    write("/sys/fs/cgroup/pod/container/worker/cpu.max", "max 100000\n");
    write("/sys/fs/cgroup/elsewhere/cpu.max", "10000 100000\n");
    EXPECT_EQ(quota(), 1.5);
    write("/sys/fs/cgroup/cpu.max", "100000 100000\n");  // a container's own group, where the mount begins
    EXPECT_EQ(quota(), 1);
}

TEST_F(Quota, OfVersion1) {
    process("5:cpuset:/other\n4:cpu,cpuacct:/job/step\n0::/ignored\n", kV1);
    EXPECT_EQ(quota(), kNoQuota);
    const std::string job = "/sys/fs/cgroup/cpu,cpuacct/job";
    write(job + "/step/cpu.cfs_quota_us", "-1\n");
    write(job + "/step/cpu.cfs_period_us", "100000\n");
    EXPECT_EQ(quota(), kNoQuota);
    write(job + "/cpu.cfs_quota_us", "120000\n");
    write(job + "/cpu.cfs_period_us", "50000\n");
    EXPECT_EQ(quota(), 2.4);
    write(job + "/step/cpu.cfs_quota_us", "20000\n");
    EXPECT_EQ(quota(), 0.2);
}

// Both at once, as systemd mounts them: the cpu controller is in one of the two.
TEST_F(Quota, OfBothVersions) {
    process("4:cpu:/a\n0::/b\n", std::string(kV1) + "33 25 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n");
    write("/sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us", "400000");
    write("/sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us", "100000");
    EXPECT_EQ(quota(), 4);
    write("/sys/fs/cgroup/unified/b/cpu.max", "300000 100000");
    EXPECT_EQ(quota(), 3);
}

// Docker without a namespace for groups: the process's group is named as outside, the mount begins at it.
TEST_F(Quota, InAContainer) {
    process("4:cpu,cpuacct:/docker/f00/sub\n", "31 25 0:27 /docker/f00 /sys/fs/cgroup/cpu\\040and ro - cgroup cgroup rw,cpu,cpuacct\n");
    write("/sys/fs/cgroup/cpu and/cpu.cfs_quota_us", "200000");
    write("/sys/fs/cgroup/cpu and/cpu.cfs_period_us", "100000");
    EXPECT_EQ(quota(), 2);
    write("/sys/fs/cgroup/cpu and/sub/cpu.cfs_quota_us", "100000");
    write("/sys/fs/cgroup/cpu and/sub/cpu.cfs_period_us", "100000");
    EXPECT_EQ(quota(), 1);
    // A group that the mount does not show: what it shows counts.
    for (const char *group : {"4:cpu,cpuacct:/docker/f00ish\n", "4:cpu,cpuacct:/\n", "4:cpu,cpuacct:/docker/f00/../b\n"}) {
        process(group, "31 25 0:27 /docker/f00 /sys/fs/cgroup/cpu\\040and ro - cgroup cgroup rw,cpu,cpuacct\n");
        EXPECT_EQ(quota(), 2) << group;
    }
}

TEST_F(Quota, NonsenseIsNoQuota) {
    process("0::/job\n", kV2);
    for (const char *text : {"", "\n", "max", "50000", "0 100000", "-5 100000", "50000 0", "many 100000", "1 2 3"}) {
        write("/sys/fs/cgroup/job/cpu.max", text);
        EXPECT_EQ(quota(), kNoQuota) << text;
    }
    process("nonsense\n::\n0::", "x - y\n - cgroup2 a b\n1 2 3 4 5 - cgroup2\n");
    EXPECT_EQ(quota(), kNoQuota);
}

TEST(Cores, AQuotaIsRoundedUpAndLeavesOne) {
    EXPECT_EQ(cores_within(8, kNoQuota), 8);
    EXPECT_EQ(cores_within(8, 2.5), 3);
    EXPECT_EQ(cores_within(8, 2), 2);
    EXPECT_EQ(cores_within(8, 16), 8);
    EXPECT_EQ(cores_within(8, 0.1), 1);
    EXPECT_EQ(cores_within(0, kNoQuota), 1);
}

// Of thread 0: the calling one.
cpu_set_t affinity() {
    cpu_set_t set;
    CPU_ZERO(&set);
    EXPECT_EQ(sched_getaffinity(0, sizeof set, &set), 0);
    return set;
}

TEST(Cores, APinnedThreadSeesThoseOfTheProcess) {
    const int before = describe_host().cores;
    std::thread([&] {
        cpu_set_t all = affinity(), one;
        CPU_ZERO(&one);
        for (int cpu = 0; cpu < CPU_SETSIZE && CPU_COUNT(&one) == 0; cpu++) {
            if (CPU_ISSET(cpu, &all)) {
                CPU_SET(cpu, &one);
            }
        }
        ASSERT_EQ(sched_setaffinity(0, sizeof one, &one), 0);
        EXPECT_EQ(process_cores().count(), CPU_COUNT(&all));
        EXPECT_EQ(describe_host().cores, before);
    }).join();
}

}  // namespace

}  // namespace moa
