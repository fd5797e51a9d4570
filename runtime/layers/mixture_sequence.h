#pragma once

#include "moa/mixture_of_attention.h"
#include "runtime/layers/attention_core.h"
#include "runtime/layers/local_core.h"
#include "runtime/layers/routing.h"

#include <string>

namespace moa {

// The sequence of one plan. A side is the queries or the keys: routed, or taken whole.
class MixtureSequence {
public:
    MixtureSequence(const MixtureOfAttention::Config &config, const MixtureOfAttention::Shapes &shapes, const PlanOptions &options)
        : builder(options), c_(config), s_(shapes), self_(shapes.context_length < 0), reference_(config.semantics == Semantics::reference),
          B_(shapes.batch), E_(config.num_experts) {
        queries_.name = "query";
        queries_.length = shapes.length;
        queries_.k = shapes.num_routed_queries.value_or(config.num_routed_queries);
        queries_.impose = shapes.impose_queries;
        keys_.name = "key_value";
        keys_.length = self_ ? shapes.length : shapes.context_length;
        keys_.k = shapes.num_routed_key_values.value_or(config.num_routed_key_values);
        keys_.impose = shapes.impose_key_values;
        for (Side *side : {&queries_, &keys_}) {
            side->routed = side->length > side->k;
            side->count = side->length;
        }
    }

    Status check() const;
    void declare_arguments();
    void score(const Floats &query_tokens, const Floats &key_value_tokens, const Floats &all_tokens);
    void select();
    Handle attend_routed(const AttentionCore &core);
    Handle attend_local(const LocalCore &core);
    void combine(Handle attended, Handle local, bool averaged_local, Floats null_token);

    bool queries_routed() const {
        return queries_.routed;
    }

    PlanBuilder builder;

private:
    struct Side {
        std::string name;
        int64_t length = 0, k = 0, count = 0;  // count: tokens an expert works on
        bool routed = false, impose = false;
        Handle x{}, mask{}, stats{}, imposed{}, similarities{}, indices_out{}, similarities_out{};
        int64_t first_router = 0;
        Routing routing{};
    };

    Handle similarities_of(const std::string &name, Handle x, const Floats &tokens, int64_t routers, int64_t dim, int64_t length, Handle stats);
    void statistics_of(Side &side);
    void select_side(Side &side);
    void take(Side &side, Routing routing);
    Handle row_scale(const Side &side, int64_t planes);
    void scale_on_gpu(const Side &side, int64_t planes, Handle scale);
    bool select_both();
    TokenSource tokens_of(const Side &side) const;

    const MixtureOfAttention::Config &c_;
    const MixtureOfAttention::Shapes &s_;
    bool self_, reference_;
    int64_t B_, E_;
    Side queries_, keys_;
    Handle angles_{}, out_{};
};

}  // namespace moa
