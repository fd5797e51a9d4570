#pragma once

#include <map>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

// Rows of the variant tables. One row is one AOT function for one target. This header knows nothing of Halide,
// so that the program which lists build outputs for CMake compiles in seconds.
namespace moa::codegen {

// Named integers of a row. Asking for a name that the row lacks is an error in the row, reported with the name.
class Values {
public:
    Values() = default;
    explicit Values(std::map<std::string, int> values)
        : values_(std::move(values)) {
    }

    int operator()(const std::string &name) const {
        const auto it = values_.find(name);
        if (it == values_.end()) {
            throw std::runtime_error("row has no value named '" + name + "'");
        }
        return it->second;
    }
    // For the values that a row may leave out.
    int get(const std::string &name, int fallback) const {
        const auto it = values_.find(name);
        return it == values_.end() ? fallback : it->second;
    }
    const std::map<std::string, int> &all() const {
        return values_;
    }

private:
    std::map<std::string, int> values_;
};

// A target of the target table (variants/targets.json): what Halide compiles for, and what the machine must have.
struct RowTarget {
    std::string name;                   // as rows write it: "x86_avx512", "cuda_80"
    std::string halide;                 // Halide target string
    std::vector<std::string> features;  // names of moa::CpuFeature that the machine must have
    std::string rows_of;                // if not empty, rows written for that target are compiled for this one too
    int capability = 0;                 // of CUDA targets: the least compute capability, 80 for 8.0; 0: a CPU
    bool exact = false;                 // of CUDA targets: no other capability
};

struct Row {
    std::string op;
    std::string schedule;
    std::string target;
    std::string dtype;                                  // "f32", "tf32" (f32 that may be rounded to it), "bf16", "f16", or "any" where no argument has a storage dtype
    Values statics;                                     // fixed when the row is compiled; the problem's value must be equal
    Values knobs;                                       // read by the schedule alone
    std::map<std::string, std::pair<int, int>> accept;  // inclusive ranges of problem values that the row takes
    int shared_bytes = 0;                               // CUDA: shared memory that a block takes; 0: what every GPU gives unasked
    int spill_bytes = 0;                                // CUDA: of registers that a thread may keep in memory
    std::string file;                                   // that the row came from
    std::string algorithm;                              // generators/<algorithm>.cpp defines the operation
    std::string schedule_source;                        // path of the C++ file that holds the schedule
    RowTarget compiled_for;                             // the entry of `target` in the target table

    // <op>__<schedule>_<target>_<dtype>[_<static><value>...][_<knob><value>...]: the only place that composes it.
    std::string symbol() const;

    // The static values and the knobs.
    Values values() const {
        std::map<std::string, int> all = knobs.all();
        all.insert(statics.all().begin(), statics.all().end());
        return Values(std::move(all));
    }
    // The C function of the row's object file; its argv form is function() + "_argv".
    std::string function() const;
};

struct RowFilter {
    std::vector<std::string> targets;  // names of the target table
    std::vector<std::string> dtypes;   // storage dtypes, empty: all; rows of dtype "any" are always in
    std::vector<int> head_dims;        // empty: all; rows with another static head_dim are left out
};

// All throw std::runtime_error naming the file and the offending entry.
std::vector<RowTarget> read_targets(const std::string &path);
// Rows in the order of the files and of the rows in them, which is the order of preference. The schedule of a row that
// names no source is in <schedules>/<algorithm>_<schedule>.cpp.
std::vector<Row> read_rows(const std::vector<std::string> &paths, const std::vector<RowTarget> &targets,
                           const std::string &schedules, const RowFilter &filter);

// One row with the Halide target that it is compiled for: all that its object file depends on.
std::string to_json(const Row &row);
Row read_row(const std::string &path);

}  // namespace moa::codegen
