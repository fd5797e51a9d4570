#include "tools/cases/case_parts.h"

#include <utility>

namespace moa::tools {

namespace {

struct RouterCall {
    CoordinateDescentRouter::Config config;
    CoordinateDescentRouter::Shapes shapes;
    bool keep_one_route_dim = false;
};

Status read(const RecordedCase &recorded, RouterCall &call) {
    Keywords init(recorded.module, recorded.init), arguments(recorded.module, recorded.call);
    init.read("dim", call.config.dim);
    init.read("num_routing_tokens", call.config.num_routing_tokens);
    init.read("learned_routing_tokens", call.config.learned_routing_tokens);
    read_router_options(init, call.config);
    if (Status status = init.finish(); !status) {
        return status;
    }
    call.shapes.num_tokens = -1;
    arguments.read("num_tokens", call.shapes.num_tokens);
    arguments.read("keep_one_route_dim", call.keep_one_route_dim);
    if (Status status = arguments.finish(); !status) {
        return status;
    }
    return call.shapes.num_tokens < 0 ? invalid("{}: num_tokens is missing or negative", recorded.module) : Status();
}

Status read_inputs(const RecordedCase &recorded, RouterCall &call, CaseLayer &layer) {
    CaseInputs inputs(recorded, layer);
    const std::vector<int64_t> x = inputs.sizes("x", {{-1, -1, call.config.dim}});
    call.shapes.batch = x[0];
    call.shapes.length = x[1];
    inputs.pass("x", "x", DType::f32, x);
    call.shapes.mask = inputs.pass_if_any("mask", "mask", DType::boolean, {x[0], x[1]});
    if (call.config.learned_routing_tokens) {
        inputs.pass("routing_tokens", "routing_tokens", DType::f32, {x[0], call.config.num_routing_tokens, call.config.dim});
    }
    return inputs.finish();
}

// The package's shapes have no axis of routing tokens if there is one and it is not asked for.
void add_outputs(const RecordedCase &recorded, const RouterCall &call, int64_t tokens, CaseLayer &layer) {
    std::vector<int64_t> shape{call.shapes.batch};
    if (call.config.num_routing_tokens > 1 || call.keep_one_route_dim) {
        shape.push_back(call.config.num_routing_tokens);
    }
    shape.push_back(tokens);
    add_output(recorded, layer, "scores", "scores", shape);
    if (call.shapes.mask) {
        add_output(recorded, layer, "mask", "mask_out", shape);
    }
    shape.push_back(call.config.dim);
    add_output(recorded, layer, "tokens", "tokens", shape);
}

Status add_routing(const RecordedCase &recorded, RouterCall &call, CaseLayer &layer) {
    const RoutedSide side{"router", "indices", "similarities", "imposed_indices", call.shapes.mask ? "mask" : "",
                          call.shapes.batch, call.config.num_routing_tokens, call.shapes.length, call.shapes.num_tokens, true};
    if (Status status = add_route(recorded, call.config, side, layer); !status) {
        return status;
    }
    const CaseOutput similarities = layer.outputs.front(), indices = layer.outputs.back();
    add_outputs(recorded, call, indices.shape.back(), layer);
    if (recorded.has("out.indices") && recorded.has("route.router.idx")) {
        const HostTensor again = recorded.tensor("out.indices");
        for (size_t i = 0; i < again.size(); i++) {
            if (again.size() != indices.want->size() || again[i] != (*indices.want)[i]) {
                return invalid("out.indices and route.router.idx are not the same");
            }
        }
    }
    if (recorded.has("route.router.y")) {
        call.shapes.soft_scores = true;
        layer.outputs.push_back({"route.router.y", "soft_scores", similarities.shape, recorded.tensor("route.router.y"), similarities.order, {}});
    }
    return {};
}

}  // namespace

Result<CaseLayer> router_case(const RecordedCase &recorded) {
    RouterCall call;
    CaseLayer layer;
    if (Status status = read(recorded, call); !status) {
        return status;
    }
    if (Status status = read_inputs(recorded, call, layer); !status) {
        return status;
    }
    const bool batches_mix = call.config.num_routing_tokens > 1 && call.shapes.batch > 1;
    const Result<Semantics> semantics = batches_mix ? semantics_of(recorded, {"gather"}) : semantics_of(recorded, {});
    if (!semantics.ok()) {
        return semantics.status();
    }
    call.config.semantics = *semantics;
    Result<CoordinateDescentRouter> router = CoordinateDescentRouter::create(call.config, recorded.file.tensors("w."));
    if (!router.ok()) {
        return router.status();
    }
    if (call.shapes.length > call.shapes.num_tokens) {
        if (Status status = add_routing(recorded, call, layer); !status) {
            return status;
        }
    } else {
        add_outputs(recorded, call, call.shapes.length, layer);
    }
    layer.plan = [router = *std::move(router), shapes = call.shapes](const PlanOptions &options, bool impose) {
        CoordinateDescentRouter::Shapes planned = shapes;
        planned.impose = impose && shapes.length > shapes.num_tokens;
        return router.plan(planned, options);
    };
    return layer;
}

}  // namespace moa::tools
