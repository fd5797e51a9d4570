#include "tests/ops/row_tests.h"
#include "tools/commands.h"

#include <cstdio>
#include <filesystem>
#include <gtest/gtest.h>
#include <string_view>

// Two programs in one, since most of it are the library's rows and both have to be carried to a machine with a GPU.
//
// Under the name `moa` it is that command. Under any other:
//   gpu_tests --list-ops               the operations that --op can name, one a line
//   gpu_tests [--op NAME [--brief]]    every test that has to do with GPUs; with --op, those of the operation's rows, too (of all
//                                      operations they would take minutes to list); --brief leaves of these what a
//                                      sanitizer has time for
int main(int argc, char **argv) {
    if (argc > 0 && std::filesystem::path(argv[0]).filename() == "moa") {
        return moa::tools::run_commands(argc, argv);
    }
    testing::InitGoogleTest(&argc, argv);
    moa::workloads::RowTests rows{.op = "none", .gpus = true};
    for (int i = 1; i < argc; i++) {
        const std::string_view argument = argv[i];
        if (argument == "--list-ops") {
            for (const std::string_view op : moa::workloads::tested_operations()) {
                std::printf("%.*s\n", static_cast<int>(op.size()), op.data());
            }
            return 0;
        }
        rows.brief = rows.brief || argument == "--brief";
        if (argument == "--op" && i + 1 < argc) {
            rows.op = argv[i + 1];
        }
    }
    moa::workloads::register_row_tests(rows);
    return RUN_ALL_TESTS();
}
