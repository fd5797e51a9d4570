#pragma once

#include "moa/rows.h"

#include <map>
#include <string_view>

namespace moa::workloads {

// Which rows the shapes of the workloads reach.
class ReachedRows {
public:
    struct Count {
        int shapes = 0, brief = 0;  // that the row accepts; and of them, in the set for sanitizers
    };
    void add(const Row &row, bool brief);
    // One test for each row of the operation that was built: it fails for those that no shape reaches.
    void register_tests(std::string_view op, bool gpus_only) const;

private:
    std::map<const Row *, Count> counts_;
};

}  // namespace moa::workloads
