#pragma once

#include "moa/coordinate_descent_router.h"
#include "runtime/layers/common.h"

namespace moa {

// Routing of one or several routers over the positions of one tensor, from similarities to the maps that products and
// combine read.
struct RoutingRequest {
    std::string name{};  // "route queries"
    const RouterOptions &options;
    int64_t batch = 1, length = 0, routers = 1;
    int64_t k = 0;          // tokens wanted a router
    Handle similarities{};  // [b, at least first_router + routers, n] f32
    int64_t first_router = 0;
    Handle mask{};           // [b, n]; none: all valid
    Handle imposed{};        // [b, routers, tokens] i64; none: select
    int64_t source_div = 1;  // semantics `reference`: rows come from batch entry b / source_div
    bool rank_order = false;
    bool soft_scores = false;  // compute them even if straight_through does not need them
};

struct Routing {
    int64_t tokens = 0;    // selected a router: k, rounded up by blocks
    Handle indices{};      // [b, routers, tokens] i32
    Handle scores{};       // [b, routers, tokens] f32
    Handle valid{};        // [b, routers, tokens] u8
    Handle slots{};        // [b, routers, n] i32
    Handle rows{};         // [b, routers, tokens] i32
    Handle soft_scores{};  // [b, routers, n] f32, or none
};

Status check_router_options(OptionCheck &check, const RouterOptions &options);

// k tokens of each block of route_block_size positions (of the whole length without blocks).
struct Blocks {
    int64_t count = 1, width = 0, k = 0;
};
Result<Blocks> blocks_of(const RouterOptions &options, int64_t length, int64_t k);

Routing route(PlanBuilder &builder, const RoutingRequest &request);

// i32 [b, r, k] -> the optional i64 output.
void write_indices(PlanBuilder &builder, Handle indices, Handle output);
// f32 [b, r, n] -> the optional output of as many rows, from row `first` on.
void write_copy(PlanBuilder &builder, Handle source, Handle output, int64_t first = 0);

View mask_view(const Frame &f, Handle mask, int64_t length, int64_t batch);

}  // namespace moa
