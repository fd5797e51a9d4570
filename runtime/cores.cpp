#include "runtime/cores.h"

#include "runtime/file.h"
#include "runtime/thread_pool.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <string_view>
#include <thread>
#include <unistd.h>
#include <vector>

namespace moa {

namespace {

bool cores_of_thread(pid_t thread, CoreSet &cores) {
    return sched_getaffinity(thread, sizeof cores.words, reinterpret_cast<cpu_set_t *>(cores.words.data())) == 0;
}

// Files of /proc and /sys are short and have no size. Empty if there is none.
std::string contents(const std::string &path) {
    const File file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    std::string text;
    std::array<char, 4096> part;
    ssize_t got = 0;
    while (file.descriptor() >= 0 && (got = ::read(file.descriptor(), part.data(), part.size())) > 0) {
        text.append(part.data(), static_cast<size_t>(got));
    }
    return text;
}

std::vector<std::string_view> split(std::string_view text, char separator) {
    std::vector<std::string_view> parts;
    while (!text.empty()) {
        const size_t end = std::min(text.find(separator), text.size());
        parts.push_back(text.substr(0, end));
        text.remove_prefix(std::min(end + 1, text.size()));
    }
    return parts;
}

bool lists(std::string_view names, std::string_view name) {
    const std::vector<std::string_view> parts = split(names, ',');
    return std::find(parts.begin(), parts.end(), name) != parts.end();
}

// mountinfo writes blanks and backslashes as \ooo.
std::string unescaped(std::string_view text) {
    std::string result;
    for (size_t at = 0; at < text.size(); at++) {
        int code = 0;
        if (text[at] == '\\' && at + 3 < text.size() && std::from_chars(&text[at + 1], &text[at + 4], code, 8).ec == std::errc()) {
            result += static_cast<char>(code);
            at += 3;
        } else {
            result += text[at];
        }
    }
    return result;
}

// A mounted hierarchy of control groups.
struct Mount {
    bool unified = false;  // cgroup v2
    std::string root;      // the group that is mounted
    std::string point;     // where
};

// "36 35 98:0 /root /mount/point rw,noatime shared:1 - type source options"
std::vector<Mount> mounts(const std::string &mountinfo) {
    constexpr size_t kRoot = 3, kPoint = 4;
    std::vector<Mount> found;
    for (const std::string_view line : split(mountinfo, '\n')) {
        const size_t separator = line.find(" - ");
        if (separator == std::string_view::npos) {
            continue;
        }
        const std::vector<std::string_view> before = split(line.substr(0, separator), ' '), after = split(line.substr(separator + 3), ' ');
        if (before.size() <= kPoint || after.size() < 3) {
            continue;
        }
        const bool unified = after[0] == "cgroup2";
        if (unified || (after[0] == "cgroup" && lists(after[2], "cpu"))) {
            found.push_back({unified, unescaped(before[kRoot]), unescaped(before[kPoint])});
        }
    }
    return found;
}

// "4:cpu,cpuacct:/group" of v1, "0::/group" of v2: the process's group in such a hierarchy. Empty if it has none.
std::string group_of(const std::string &cgroup, bool unified) {
    for (const std::string_view line : split(cgroup, '\n')) {
        const size_t first = line.find(':'), second = line.find(':', first + 1);
        if (first == std::string_view::npos || second == std::string_view::npos) {
            continue;
        }
        const std::string_view controllers = line.substr(first + 1, second - first - 1);
        if (unified ? line.starts_with("0::") : lists(controllers, "cpu")) {
            return std::string(line.substr(second + 1));
        }
    }
    return {};
}

// The path of a group below the group that is mounted. Empty, for the mounted group itself, where it is none below: a
// container sees its own group as the mount, whatever the name that it has outside.
std::string below(const std::string &group, const std::string &root) {
    const std::string prefix = root == "/" ? "" : root;
    const bool inside = group.starts_with(prefix + "/") && (group + "/").find("/../") == std::string::npos;
    std::string path = inside ? group.substr(prefix.size()) : "";
    while (path.ends_with('/')) {
        path.pop_back();
    }
    return path;
}

double number(std::string_view text) {
    double value = -1;
    std::from_chars(text.data(), text.data() + text.size(), value);
    return value;
}

// "max 100000", "50000 100000", or v1's two files, of which the first may hold -1.
double quota_of_group(const std::string &folder, bool unified) {
    const std::string text = unified ? contents(folder + "/cpu.max") : contents(folder + "/cpu.cfs_quota_us") + " " + contents(folder + "/cpu.cfs_period_us");
    std::vector<std::string_view> words;
    for (const std::string_view line : split(text, '\n')) {
        for (const std::string_view word : split(line, ' ')) {
            if (!word.empty()) {
                words.push_back(word);
            }
        }
    }
    if (words.size() != 2) {
        return kNoQuota;
    }
    const double quota = number(words[0]), period = number(words[1]);
    return quota > 0 && period > 0 ? quota / period : kNoQuota;
}

}  // namespace

void CoreSet::add(const CoreSet &other) {
    std::transform(words.begin(), words.end(), other.words.begin(), words.begin(), [](uint64_t a, uint64_t b) { return a | b; });
}

int CoreSet::count() const {
    int bits = 0;
    for (const uint64_t word : words) {
        bits += std::popcount(word);
    }
    return bits;
}

CoreSet process_cores() {
    CoreSet cores, one;
    if (cores_of_thread(getpid(), one)) {
        cores = one;
    }
    DIR *threads = opendir("/proc/self/task");
    while (const dirent *entry = threads == nullptr ? nullptr : readdir(threads)) {
        const auto thread = static_cast<pid_t>(std::atoi(entry->d_name));
        if (thread > 0 && !ThreadPool::instance().is_worker(thread) && cores_of_thread(thread, one)) {
            cores.add(one);
        }
    }
    if (threads != nullptr) {
        closedir(threads);
    }
    return cores;
}

double cpu_quota(const std::string &root) {
    const std::string cgroup = contents(root + "/proc/self/cgroup");
    double least = kNoQuota;
    for (const Mount &mount : mounts(contents(root + "/proc/self/mountinfo"))) {
        const std::string group = group_of(cgroup, mount.unified);
        if (group.empty()) {
            continue;
        }
        for (std::string path = below(group, mount.root);; path.erase(path.rfind('/'))) {
            least = std::min(least, quota_of_group(root + mount.point + path, mount.unified));
            if (path.empty()) {
                break;
            }
        }
    }
    return least;
}

int cores_within(int cores, double quota) {
    return std::max(quota < cores ? static_cast<int>(std::ceil(quota)) : cores, 1);
}

int usable_cores() {
    const int cores = process_cores().count();
    return cores_within(cores > 0 ? cores : static_cast<int>(std::thread::hardware_concurrency()), cpu_quota());
}

}  // namespace moa
