#pragma once

// Every operation that has a workload: workloads/<name>.cpp defines `const Workload &<name>_workload()`.
#define MOA_WORKLOADS(X)         \
    X(router_scores)             \
    X(row_statistics)            \
    X(coordinate_descent)        \
    X(coordinate_descent_step)   \
    X(coordinate_descent_finish) \
    X(select_tokens)             \
    X(route_slots)               \
    X(select_slots)              \
    X(copy_indices)              \
    X(project)                   \
    X(attention)                 \
    X(local_attention)           \
    X(combine)                   \
    X(rotary_table)
