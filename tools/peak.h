#pragma once

namespace moa::tools {

// What a machine can do at best, measured with plain loops on as many threads: the yardsticks of the bench.
struct Peak {
    double flops = 0;       // f32 multiply-adds in the widest registers, 2 operations each; per second
    double bf16_flops = 0;  // products of bf16 pairs summed in f32; 0: the machine has no instruction for it
    double bytes = 0;       // read and written by copies that no cache holds; per second
};

Peak measure_peak(int threads);

}  // namespace moa::tools
