#include "tools/commands.h"

int main(int argc, char **argv) {
    return moa::tools::run_commands(argc, argv);
}
