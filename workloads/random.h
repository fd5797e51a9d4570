#pragma once

#include <cstdint>

namespace moa::workloads {

// splitmix64: the same numbers with every compiler and standard library.
class Random {
public:
    explicit Random(uint64_t seed)
        : state_(seed) {
    }

    uint64_t next() {
        uint64_t z = state_ += 0x9e3779b97f4a7c15;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
        z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
        return z ^ (z >> 31);
    }
    double uniform() {  // [0, 1)
        return static_cast<double>(next() >> 11) * 0x1p-53;
    }
    double normal() {  // of mean 0 and variance 1; a sum of four uniform numbers, so bounded by 3.5
        const uint64_t bits = next();
        double sum = 0;
        for (int part = 0; part < 4; part++) {
            sum += static_cast<double>((bits >> (16 * part)) & 0xffff);
        }
        return (sum / 65535 - 2) * 1.7320508;
    }
    int64_t below(int64_t bound) {
        return static_cast<int64_t>(next() % static_cast<uint64_t>(bound));
    }
    int64_t integer(int64_t magnitude) {  // [-magnitude, magnitude]
        return below(2 * magnitude + 1) - magnitude;
    }
    bool chance(double probability) {
        return uniform() < probability;
    }

private:
    uint64_t state_;
};

}  // namespace moa::workloads
