#include "tools/cases/case_parts.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace moa::tools {

namespace {

bool fits(const std::vector<int64_t> &shape, const std::vector<int64_t> &wanted) {
    return std::equal(shape.begin(), shape.end(), wanted.begin(), wanted.end(), [](int64_t size, int64_t want) { return want < 0 || size == want; });
}

int64_t elements_of(const std::vector<int64_t> &shape) {
    int64_t elements = 1;
    for (const int64_t extent : shape) {
        if (__builtin_mul_overflow(elements, extent, &elements)) {
            return -1;  // as no tensor has
        }
    }
    return elements;
}

// What the file has of that name, in words.
std::string what_is(const SafeTensors &file, const std::string &name) {
    const Result<TensorView> tensor = file.tensor(name);
    const auto why = file.tensors().unreadable.find(name);
    return tensor.ok() ? tensor->describe() : (why != file.tensors().unreadable.end() ? why->second : "missing");
}

std::vector<int64_t> shape_of(const TensorView &view) {
    return {view.shape.begin(), view.shape.begin() + view.rank};
}

}  // namespace

std::vector<int64_t> CaseInputs::sizes(const std::string &name, const std::vector<std::vector<int64_t>> &shapes) {
    taken_.insert(name);
    const auto found = recorded_.file.tensors().find("in." + name);
    const bool given = found != recorded_.file.tensors().end();
    std::vector<int64_t> shape = given ? shape_of(found->second) : std::vector<int64_t>();
    std::string wanted;
    for (const std::vector<int64_t> &want : shapes) {
        if (given && fits(shape, want)) {
            return shape;
        }
        wanted += (wanted.empty() ? "" : " or ") + text_of(want);
    }
    if (status_.ok()) {
        status_ = invalid("in.{} is {}, must be {} (-1: any size)", name, what_is(recorded_.file, "in." + name), wanted);
    }
    std::vector<int64_t> unknown(shapes.front().size(), -1);
    return unknown;
}

void CaseInputs::pass(const std::string &name, const std::string &argument, DType dtype, std::vector<int64_t> shape) {
    taken_.insert(name);
    const auto found = recorded_.file.tensors().find("in." + name);
    if (found == recorded_.file.tensors().end() || found->second.dtype != dtype || found->second.elements() != elements_of(shape)) {
        if (status_.ok()) {
            status_ = invalid("in.{} is {}, must be {} with the elements of {}", name, what_is(recorded_.file, "in." + name),
                              name_of(dtype), text_of(shape));
        }
        return;
    }
    layer_.inputs[argument] = HostTensor::copy_of(found->second).reshaped(std::move(shape));
}

bool CaseInputs::pass_if_any(const std::string &name, const std::string &argument, DType dtype, std::vector<int64_t> shape) {
    if (!has(name)) {
        return false;
    }
    pass(name, argument, dtype, std::move(shape));
    return true;
}

Status CaseInputs::finish() const {
    if (!status_.ok()) {
        return status_;
    }
    for (const auto &[name, tensor] : recorded_.file.tensors("in.")) {
        if (!taken_.contains(name)) {
            return {Code::unsupported, text("{} takes no input {} here", recorded_.module, name)};
        }
    }
    return {};
}

void read_router_options(Keywords &keywords, RouterOptions &options) {
    keywords.read("straight_through", options.straight_through);
    keywords.read("n_iters", options.n_iters);
    keywords.read("fetch_k_ratio", options.fetch_k_ratio);
    keywords.read("eps", options.eps);
    keywords.read("eps_decay", options.eps_decay);
    keywords.read("eps_init", options.eps_init);
    keywords.read("cosine_sim_routing", options.cosine_sim_routing);
    keywords.read("cosine_sim_scale", options.cosine_sim_scale);
    keywords.read("route_block_size", options.route_block_size);
    keywords.ignore({"use_triton", "triton_checkpoint_segments"});
}

Result<Semantics> semantics_of(const RecordedCase &recorded, std::initializer_list<const char *> needed) {
    static const std::set<std::string, std::less<>> kKnown{"gather", "kv_split", "local_unrouted"};
    for (const std::string &name : recorded.fix) {
        if (!kKnown.contains(name)) {
            return Status(Code::unsupported, text("the repair {} is not one of {}'s", name, recorded.module));
        }
    }
    if (recorded.fix.empty()) {
        return Semantics::reference;
    }
    for (const char *name : needed) {
        if (!recorded.fix.contains(name)) {
            return Status(Code::unsupported, text("only some of the package's surprises are repaired: {} is not, and matters here", name));
        }
    }
    return Semantics::fixed;
}

std::vector<size_t> block_order(const RoutedSide &side, int64_t blocks, int64_t width) {
    std::vector<size_t> order;
    for (int64_t b = 0; b < side.batch; b++) {
        for (int64_t block = 0; block < blocks; block++) {
            for (int64_t r = 0; r < side.routers; r++) {
                for (int64_t i = 0; i < width; i++) {
                    order.push_back(static_cast<size_t>((b * side.routers + r) * side.length + block * width + i));
                }
            }
        }
    }
    return order;
}

namespace {

// Recorded rows of blocks in the order of the plan's [b, r, n]; what lies in no block is 0.
HostTensor unblocked(const HostTensor &rows, const std::vector<size_t> &order, const std::vector<int64_t> &shape) {
    HostTensor result(DType::f32, shape);
    for (size_t i = 0; i < result.size(); i++) {
        result.set(i, 0);
    }
    for (size_t i = 0; i < order.size(); i++) {
        result.set(order[i], rows[i]);
    }
    return result;
}

}  // namespace

Status add_route(const RecordedCase &recorded, const RouterOptions &options, const RoutedSide &side, CaseLayer &layer) {
    const int64_t width = options.route_block_size.value_or(side.length);
    if (width < 1 || width > side.length) {
        return invalid("route_block_size is {}, must be 1 to the length {}", width, side.length);
    }
    const int64_t blocks = side.length / width, k = (side.k + blocks - 1) / blocks * blocks;
    const std::string prefix = "route." + side.router + ".";
    const std::vector<int64_t> route_shape{side.batch, side.routers, k}, score_shape{side.batch, side.routers, side.length};

    CaseOutput similarities{prefix + "s", side.similarities, score_shape, {}, {}, {}};
    CaseOutput indices{prefix + "idx", side.indices, route_shape, {}, {}, Selection{side.similarities, side.mask, blocks, width, side.by_rank, {}}};
    if (recorded.has(prefix + "s")) {
        similarities.want = recorded.tensor(prefix + "s");
        const std::vector<int64_t> recorded_shape{side.batch * blocks * side.routers, width};
        if (similarities.want->shape() != recorded_shape) {
            return invalid("{}s is {}, must be {}", prefix, text_of(similarities.want->shape()), text_of(recorded_shape));
        }
        similarities.order = block_order(side, blocks, width);
        indices.selection->recorded = unblocked(*similarities.want, similarities.order, score_shape);
    }
    if (recorded.has(prefix + "idx")) {
        const HostTensor routes = recorded.tensor(prefix + "idx");
        if (routes.dtype() != DType::i64 || static_cast<int64_t>(routes.size()) != elements_of(route_shape)) {
            return invalid("{}idx is {} {}, must be i64 {}", prefix, name_of(routes.dtype()), text_of(routes.shape()), text_of(route_shape));
        }
        indices.want = routes.reshaped(route_shape);
        layer.inputs[side.imposed] = *indices.want;
    }
    layer.routes_missing = layer.routes_missing || !indices.want;
    layer.outputs.push_back(std::move(similarities));
    layer.outputs.push_back(std::move(indices));
    return {};
}

double rms_of(const RecordedCase &recorded, const std::string &tensor) {
    return recorded.has(tensor) ? rms(recorded.tensor(tensor)) : 1;
}

double projected(const RecordedCase &recorded, double input, const std::string &weight, const std::string &gain) {
    if (!recorded.has(weight) || recorded.tensor(weight).shape().size() < 2) {
        return input;  // creating the layer fails, and says why
    }
    const auto channels = static_cast<double>(recorded.tensor(weight).shape()[1]);
    return input * rms_of(recorded, gain) * rms_of(recorded, weight) * std::sqrt(channels);
}

void add_output(const RecordedCase &recorded, CaseLayer &layer, const std::string &name, const std::string &argument, std::vector<int64_t> shape) {
    CaseOutput output{"out." + name, argument, std::move(shape), {}, {}, {}};
    if (recorded.has(output.name)) {
        output.want = recorded.tensor(output.name);
    }
    layer.outputs.push_back(std::move(output));
}

}  // namespace moa::tools
