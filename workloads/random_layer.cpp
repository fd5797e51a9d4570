#include "workloads/random_layer.h"

#include "runtime/elements.h"
#include "runtime/text.h"
#include "workloads/random_layer_kinds.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace moa::workloads {

namespace {

double element(const TensorView &tensor, int64_t place) {
    return load_element(tensor.dtype, static_cast<const std::byte *>(tensor.data) + static_cast<size_t>(place) * size_bytes(tensor.dtype));
}

const TensorView *find(const LayerInstance &instance, std::string_view name) {
    for (const NamedTensor &tensor : instance.tensors()) {
        if (tensor.name == name) {
            return &tensor.tensor;
        }
    }
    return nullptr;
}

}  // namespace

int64_t Drawn::size(int64_t low, int64_t high) {
    const double from = std::log(static_cast<double>(low)), to = std::log(static_cast<double>(high) + 1);
    return std::clamp(static_cast<int64_t>(std::exp(from + (to - from) * random.uniform())), low, high);
}

// Half of the heads are those that have rows of their own.
int64_t Drawn::head_width(bool even) {
    constexpr std::array<int64_t, 3> kUsual{32, 64, 128};
    int64_t width = chance(0.4) ? kUsual[static_cast<size_t>(random.below(3))] : size(8, 256);
    if (bounds.widest_head > 256 && chance(0.15)) {
        width = size(257, bounds.widest_head);
    }
    return even ? width / 2 * 2 : width;
}

bool Drawn::option(const char *name, double probability, bool possible) {
    const bool taken = chance(probability) && possible;
    text += taken ? std::string(" ") + name : std::string();
    return taken;
}

Rows Drawn::rows(std::string_view name, int64_t count, int64_t width) const {
    const TensorView &tensor = *find(maker.instance(), name);
    Rows all(count, width);
    for (size_t i = 0; i < all.values.size(); i++) {
        all.values[i] = element(tensor, static_cast<int64_t>(i));
    }
    return all;
}

const void *Drawn::memory(std::string_view name) const {
    const TensorView *tensor = find(maker.instance(), name);
    return tensor == nullptr ? nullptr : tensor->data;
}

std::vector<uint8_t> Drawn::mask(std::string_view name) const {
    const TensorView *tensor = find(maker.instance(), name);
    if (tensor == nullptr) {
        return {};
    }
    const auto *bytes = static_cast<const uint8_t *>(tensor->data);
    return {bytes, bytes + tensor->elements()};
}

struct RandomLayer::Impl {
    Impl(uint64_t seed, DType dtype, const Bounds &bounds)
        : random(seed), instance(dtype, seed), maker(instance), drawn{random, maker, bounds} {
    }
    Random random;
    LayerInstance instance;
    LayerMaker maker;
    Drawn drawn;
};

RandomLayer::RandomLayer(std::unique_ptr<Impl> impl)
    : impl_(std::move(impl)) {
}
RandomLayer::~RandomLayer() = default;

const std::string &RandomLayer::text() const {
    return impl_->drawn.text;
}
Result<Plan> RandomLayer::plan(const PlanOptions &options) const {
    return impl_->instance.plan(options);
}
LayerInstance &RandomLayer::instance() {
    return impl_->instance;
}

Result<std::unique_ptr<RandomLayer>> RandomLayer::make(uint64_t seed, DType dtype, const Bounds &bounds) {
    constexpr std::array kKinds{draw_mixture, draw_mixture, draw_local_attention, draw_local_mha, draw_attention, draw_linear, draw_feed_forward};
    // Layers with more products than that are drawn anew, from seeds that follow from this one.
    Random seeds(seed);
    for (int attempt = 0; attempt < 1000; attempt++) {
        auto impl = std::make_unique<Impl>(seeds.next(), dtype, bounds);
        const auto kind = kKinds[static_cast<size_t>(impl->random.below(kKinds.size()))];
        Status status = kind(impl->drawn);
        if (!status.ok()) {
            return Status(status.code(), impl->drawn.text + ": " + status.message());
        }
        if (!impl->drawn.too_large()) {
            return std::unique_ptr<RandomLayer>(new RandomLayer(std::move(impl)));
        }
    }
    return invalid("seed {} gives no layer of at most {} products", seed, bounds.most_products);
}

Status RandomLayer::check(Precision precision) const {
    constexpr double kMargin = 4;
    constexpr int kDraws = 3;
    const TensorView &out = *find(impl_->instance, "out");
    if (Status status = impl_->drawn.check(); !status) {
        return status;
    }
    Rounding none;
    const Rows exact = impl_->drawn.reference(none);
    double largest = 0, scale = 0;
    for (int draw = 0; draw < kDraws; draw++) {
        Rounding rounding(out.dtype, precision, static_cast<uint64_t>(draw) + 1);
        const Rows rounded = impl_->drawn.reference(rounding);
        for (size_t i = 0; i < exact.values.size(); i++) {
            largest = std::fmax(largest, std::fabs(rounded.values[i] - exact.values[i]));
            scale = std::fmax(scale, std::fabs(exact.values[i]));
        }
    }
    const double tolerance = kMargin * (largest + roundoff(out.dtype) * scale);
    for (size_t i = 0; i < exact.values.size(); i++) {
        const double got = element(out, static_cast<int64_t>(i)), want = exact.values[i];
        if (!(std::fabs(got - want) <= tolerance)) {
            return {Code::internal, moa::text("channel {} of row {} of out is {}, not {} (within {})", i % static_cast<size_t>(exact.width), i / static_cast<size_t>(exact.width), got, want, tolerance)};
        }
    }
    return {};
}

}  // namespace moa::workloads
