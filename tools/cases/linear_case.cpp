#include "moa/feed_forward.h"

#include "tools/cases/case_parts.h"

#include <utility>

namespace moa::tools {

// torch.nn.Linear, whose input has an axis of batch entries here.
Result<CaseLayer> linear_case(const RecordedCase &recorded) {
    Linear::Config config;
    Keywords init(recorded.module, recorded.init), call(recorded.module, recorded.call);
    config.bias = true;  // torch's default
    init.read("in_features", config.dim_in);
    init.read("out_features", config.dim_out);
    init.read("bias", config.bias);
    for (const Keywords *keywords : {&init, &call}) {
        if (Status status = keywords->finish(); !status) {
            return status;
        }
    }
    Result<Linear> linear = Linear::create(config, recorded.file.tensors("w."));
    if (!linear.ok()) {
        return linear.status();
    }
    CaseLayer layer;
    CaseInputs inputs(recorded, layer);
    const std::vector<int64_t> x = inputs.sizes("x", {{-1, -1, config.dim_in}});
    inputs.pass("x", "x", DType::f32, x);
    add_output(recorded, layer, "out", "out", {x[0], x[1], config.dim_out});
    if (Status status = inputs.finish(); !status) {
        return status;
    }
    layer.roundings = {.values = 2};  // weights and x
    layer.plan = [linear = *std::move(linear), x](const PlanOptions &options, bool /*impose*/) { return linear.plan(x[0], x[1], options); };
    return layer;
}

}  // namespace moa::tools
