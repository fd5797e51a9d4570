#include "workloads/layers.h"

#include "runtime/elements.h"
#include "runtime/text.h"
#include "workloads/layer_maker.h"

#include <cmath>
#include <cstring>
#include <new>

namespace moa::workloads {

namespace {

constexpr std::align_val_t kAlignment{64};
constexpr std::byte kPoison{0xff};  // NaN in every floating dtype, -1 in the integers

size_t byte_count(const TensorView &view) {
    return static_cast<size_t>(view.elements()) * size_bytes(view.dtype);
}

}  // namespace

void LayerInstance::Free::operator()(std::byte *memory) const {
    ::operator delete[](memory, kAlignment);
}

std::byte *LayerInstance::allocate(size_t bytes) {
    return memory_.emplace_back(new (kAlignment) std::byte[bytes]).get();
}

Result<Plan> LayerInstance::plan(PlanOptions options) const {
    options.dtype = dtype_;
    return make_plan_(options);
}

double LayerInstance::output_bytes() const {
    double bytes = 0;
    for (const size_t place : outputs_) {
        bytes += static_cast<double>(byte_count(tensors_[place].tensor));
    }
    return bytes;
}

void LayerInstance::poison() {
    for (const size_t place : outputs_) {
        const TensorView &view = tensors_[place].tensor;
        std::memset(view.data, static_cast<int>(kPoison), byte_count(view));
    }
}

Status LayerInstance::check_outputs() const {
    for (const size_t place : outputs_) {
        const auto &[name, view] = tensors_[place];
        for (int64_t i = 0; i < view.elements(); i++) {
            const double value = load_element(view.dtype, static_cast<const std::byte *>(view.data) + static_cast<size_t>(i) * size_bytes(view.dtype));
            if (!std::isfinite(value) || (view.dtype == DType::i64 && value < 0)) {
                return {Code::internal, text("element {} of output {} is {}", i, name, value)};
            }
        }
    }
    return {};
}

// FNV-1a.
uint64_t LayerInstance::output_hash() const {
    uint64_t hash = 0xcbf29ce484222325;
    for (const size_t place : outputs_) {
        const TensorView &view = tensors_[place].tensor;
        for (const std::byte byte : std::span(static_cast<const std::byte *>(view.data), byte_count(view))) {
            hash = (hash ^ static_cast<uint64_t>(byte)) * 0x100000001b3;
        }
    }
    return hash;
}

Result<std::unique_ptr<LayerInstance>> LayerCase::make(DType dtype, uint64_t seed) const {
    if (dtype != DType::f32 && (any_dtype || !is_storage(dtype))) {
        return invalid("case {} has no dtype {}: it runs in {}", name, name_of(dtype), any_dtype ? "f32" : "f32, bf16 and f16");
    }
    auto instance = std::make_unique<LayerInstance>(dtype, seed);
    LayerMaker maker(*instance);
    if (Status status = fill(maker); !status) {
        return Status(status.code(), text("case {}: {}", name, status.message()));
    }
    return instance;
}

const LayerCase *find_layer_case(std::string_view name) {
    for (const LayerCase &layer : layer_cases()) {
        if (layer.name == name) {
            return &layer;
        }
    }
    return nullptr;
}

}  // namespace moa::workloads
