#include "tests/ops/row_tests.h"

#include <gtest/gtest.h>
#include <string_view>

// gpu_tests [--op NAME]: every test that has to do with GPUs, in one program to carry to a machine with one; with --op, the
// rows of an operation, too (of all operations they would take minutes to list).
int main(int argc, char **argv) {
    testing::InitGoogleTest(&argc, argv);
    std::string_view op = "none";
    for (int i = 1; i + 1 < argc; i++) {
        op = std::string_view(argv[i]) == "--op" ? argv[i + 1] : op;
    }
    moa::workloads::register_row_tests(op);
    return RUN_ALL_TESTS();
}
