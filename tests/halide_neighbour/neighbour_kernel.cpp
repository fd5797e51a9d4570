#include "Halide.h"

#include <iostream>

// Compiles a kernel that allocates and runs in parallel, with Halide's runtime, as a user of Halide would.
int main(int argc, char **argv) {
    if (argc != 2) {
        std::cerr << "usage: neighbour_kernel OBJECT\n";
        return 2;
    }
    Halide::ImageParam x(Halide::Float(32), 1, "x");
    Halide::Var i("i"), outer("outer"), inner("inner");
    Halide::Func twice("twice"), result("result");
    twice(i) = x(i) * 2;
    result(i) = twice(i) + 1;
    result.split(i, outer, inner, 64).parallel(outer);
    twice.compute_root().store_in(Halide::MemoryType::Heap);
    result.compile_to_object(argv[1], {x}, "neighbour", Halide::Target("x86-64-linux"));
    return 0;
}
