#include "moa/local_attention.h"

#include "workloads/layer_maker.h"

namespace moa::workloads {

// Windows of 128 with their neighbours, exact, turned by rotary positions.
Status local_case(LayerMaker &maker) {
    LocalAttention::Config config;
    config.dim_head = 64;
    config.window_size = 128;
    config.exact_windowsize = config.rotary = true;
    LocalAttention::Shapes shapes;
    shapes.heads = 8;
    shapes.length = 16384;
    for (const char *name : {"q", "k", "v"}) {
        maker.input(name, {shapes.batch, shapes.heads, shapes.length, config.dim_head});
    }
    maker.output("out", maker.dtype(), {shapes.batch, shapes.heads, shapes.length, config.dim_head});
    maker.angles("rel_pos.inv_freq", config.dim_head);
    maker.count_products({shapes.heads, shapes.length, 2 * config.window_size + 1}, 2 * config.dim_head);
    const Result<LocalAttention> layer = LocalAttention::create(config, maker.weights());
    if (!layer.ok()) {
        return layer.status();
    }
    maker.plan([layer = *layer, shapes](const PlanOptions &options) { return layer.plan(shapes, options); });
    return {};
}

}  // namespace moa::workloads
