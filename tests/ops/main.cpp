#include "tests/ops/row_tests.h"

#include <gtest/gtest.h>

#include <string_view>

// op_tests [--op NAME]: the rows of one operation, or of all.
int main(int argc, char **argv) {
    testing::InitGoogleTest(&argc, argv);
    std::string_view op;
    for (int i = 1; i + 1 < argc; i++) {
        if (std::string_view(argv[i]) == "--op") {
            op = argv[i + 1];
        }
    }
    moa::workloads::register_row_tests({.op = op});
    return RUN_ALL_TESTS();
}
