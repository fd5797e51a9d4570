#pragma once

#include "moa/safetensors.h"
#include "moa/status.h"
#include "tools/cases/host_tensor.h"

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <string_view>

namespace moa::tools {

using Json = nlohmann::json;

// A layer of the PyTorch packages with its inputs and what it computed (tests/golden/README.md): tensors w.<state_dict name>,
// in.<argument>, out.<name>, route.<router>.{s,y,idx}, and the metadata `case`.
struct RecordedCase {
    std::string name, module;
    Json init, call;            // keyword arguments of the constructor and of the call; objects
    std::set<std::string> fix;  // repairs of the package that were on; none: semantics `reference`
    SafeTensors file;

    static Result<RecordedCase> open(const std::string &path);

    bool has(const std::string &tensor) const {
        return file.tensors().find(tensor) != file.tensors().end();
    }
    HostTensor tensor(const std::string &name) const;  // which must be there
};

// Keyword arguments of a recorded constructor or call. The first of a wrong type sticks; so does one that nobody asked for.
class Keywords {
public:
    Keywords(std::string owner, const Json &object)
        : owner_(std::move(owner)), object_(object) {
    }

    // Leaves the value as it is where there is none, or None.
    void read(const char *name, bool &value);
    void read(const char *name, int64_t &value);
    void read(const char *name, double &value);
    void read(const char *name, std::optional<bool> &value);
    // None is no value.
    void read(const char *name, std::optional<int64_t> &value);
    void read(const char *name, std::optional<double> &value);
    // Those that change nothing here: how PyTorch computes, and what matters in training only.
    void ignore(std::initializer_list<const char *> names);
    // Code::unsupported for an argument that was not asked for.
    Status finish() const;

private:
    const Json *take(const char *name, bool accepted(const Json &), const char *type);

    std::string owner_;
    const Json &object_;
    std::set<std::string, std::less<>> taken_;
    Status status_;
};

}  // namespace moa::tools
