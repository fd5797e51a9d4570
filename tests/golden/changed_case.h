#pragma once

#include "moa/safetensors.h"
#include "tools/cases/host_tensor.h"

#include <functional>
#include <map>
#include <string>

namespace moa::tools {

// A copy of a case with other tensors or metadata.
class ChangedCase {
public:
    // SafeTensors::open() must have succeeded on it.
    explicit ChangedCase(const SafeTensors &file)
        : metadata(file.metadata()) {
        for (const auto &[name, tensor] : file.tensors()) {
            tensors.emplace(name, HostTensor::copy_of(tensor));
        }
    }
    Status write(const std::string &path) {
        TensorMap views;
        for (auto &[name, tensor] : tensors) {
            views[name] = tensor.view();
        }
        return write_safetensors(path, views, metadata);
    }

    std::map<std::string, HostTensor> tensors;
    Metadata metadata;
};

}  // namespace moa::tools
