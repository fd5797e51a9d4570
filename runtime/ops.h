#pragma once

#include "moa/rows.h"
#include "moa/status.h"
#include "runtime/run.h"
#include "runtime/view.h"

#include <array>
#include <cstdint>

// The operations as functions: argument structs in, one kernel launch (or, for any number of iterations, a loop of
// them) out. Axes are innermost first, in the letters of the layers: c channel, o output channel, n position, m row,
// i query, j key, d head channel, h head, e expert, b batch, r router row, k routed slot, s slot of a local window.
namespace moa::ops {

// A view that says "absent" to operations whose argument is optional: one zero (or one) with strides 0.
View zero_f32(int rank);
View one_f32(int rank);
View one_u8(int rank);
View zero_i32(int rank);
View zero_of(DType dtype, int rank);

struct RouterScores {
    View x;       // c n b
    View tokens;  // c r b, f32
    float cosine_scale = 0;
    View scores;  // n r b, f32
    View stats;   // n q b, f32: sum of squares, mean, variance
};
Status run(Run &run, const Row &row, const RouterScores &a);

struct RowStatistics {
    View x, stats;
};
Status run(Run &run, const Row &row, const RowStatistics &a);

struct CoordinateDescent {
    View scores;  // n r b, f32
    View mask;    // n b, u8
    float log_k = 0;
    View eps;  // iterations + 1, f32
    View y;    // n r b, f32
};
Status run(Run &run, const Row &row, const CoordinateDescent &a);

struct CoordinateDescentStep {
    View scores, mask, a_in;
    bool first = false;
    float log_k = 0, eps = 0;
    View a_out;  // r b, f32
};
Status run(Run &run, const Row &row, const CoordinateDescentStep &a);

struct CoordinateDescentFinish {
    View scores, mask, a;
    float eps = 0;
    View y;
};
Status run(Run &run, const Row &row, const CoordinateDescentFinish &a);

struct SelectTokens {
    View scores, mask;
    int32_t k = 0, offset = 0;
    View indices;  // k r b, i32
};
Status run(Run &run, const Row &row, const SelectTokens &a);

struct RouteSlots {
    View indices;  // k r b, i32
    View mask;     // n b, u8: its extent n is the number of positions
    View y;        // n r b, f32; read if soft
    bool soft = false;
    int32_t source_div = 1;
    View scores;  // k r b, f32
    View valid;   // k r b, u8
    View slots;   // n r b, i32
    View rows;    // k r b, i32
};
Status run(Run &run, const Row &row, const RouteSlots &a);

// SelectTokens of all positions in their order, and RouteSlots of the result with scores of 1.
struct SelectSlots {
    View scores;  // n r b, f32
    View mask;    // n b, u8
    int32_t source_div = 1;
    View indices;         // k r b, i32
    View routing_scores;  // k r b, f32
    View valid;           // k r b, u8
    View slots;           // n r b, i32
    View rows;            // k r b, i32
};
Status run(Run &run, const Row &row, const SelectSlots &a);

// Between the API's 64-bit indices and the kernels'. To 32 bits, what is out of [0, limit) becomes the nearest index in it.
struct CopyIndices {
    View in, out;  // k r b; i32 to i64, or i64 to i32
    int32_t limit = 1;
};
Status run(Run &run, const Row &row, const CopyIndices &a);

enum class Norm : int32_t { none = 0,
                            rms = 1,
                            layer = 2 };
enum class Activation : int32_t { none = 0,
                                  gelu = 1 };

struct Project {
    View x;          // c n b
    View rows;       // m e b, i32: b' * N + n
    View weights;    // packed panels, e outermost (runtime/packing.h)
    View stats;      // n q b
    View colsum;     // o e
    View bias;       // o e
    View cosines;    // d p e b
    View sines;      // d p e b
    View positions;  // m e b, i32
    View scale;      // m s e b
    bool gather = false;
    Norm norm = Norm::none;
    int32_t norm_dim = 1;
    Activation activation = Activation::none;
    int32_t rotary_heads = 0;
    int32_t scale_heads = 1;
    View out;  // d m h e b
};
Status run(Run &run, const Row &row, const Project &a);

struct Attention {
    View q, k, v;   // d i|j h e b; masked keys and their values may hold anything
    View mask;      // j e b, u8
    View null_key;  // d h e, f32
    View null_value;
    float scale = 1;
    bool has_null = true;
    View out;  // d i h e b
};
Status run(Run &run, const Row &row, const Attention &a);

struct LocalAttention {
    View q, k, v;                     // d n h b
    View mask;                        // n b, u8
    View q_cos, q_sin, k_cos, k_sin;  // d s, f32
    View q_gain, k_gain;              // d, f32
    View bias;                        // j i h, f32
    View gate;                        // h n b
    int32_t window = 1, look_backward = 1, look_forward = 1;
    bool causal = false, exact = false, shared_qk = false, normalize_q = false, normalize_k = false;
    bool has_bias = false, has_gate = false, has_mask = false;
    int32_t left_out = 0, left_outside = 0, zero_keys = 0;  // slots that there are beside these (generators/local_attention.h)
    bool turned = false;                                    // q_cos is the same positive number everywhere, k_cos 1, q_sin and k_sin 0
    View out;                                               // d n h b
};
Status run(Run &run, const Row &row, const LocalAttention &a);

// What a window's queries look at: the positions of the windows around it.
inline int64_t slots_of(const LocalAttention &a) {
    return (int64_t{a.look_backward} + 1 + a.look_forward) * a.window;
}

enum class Divide : int32_t { none = 0,
                              count = 1,
                              constant = 2 };

struct Combine {
    View a;           // c m e b
    View slots;       // n e b, i32
    View valid;       // m e b, u8
    View local;       // c n b
    View null_token;  // c, f32
    View mask;        // n b, u8
    bool routed = true, has_local = false;
    Divide divide = Divide::none;
    float divisor = 1;
    View out;  // c n b
};
Status run(Run &run, const Row &row, const Combine &a);

struct RotaryTable {
    View angles, cosines, sines;  // d n, f32
};
Status run(Run &run, const Row &row, const RotaryTable &a);

// The problems of the operations: what `select` is asked. Here, so that plans, tests and the bench ask alike.
Problem problem(const RouterScores &a);
Problem problem(const RowStatistics &a);
Problem problem(const CoordinateDescent &a);
Problem problem(const CoordinateDescentStep &a);
Problem problem(const CoordinateDescentFinish &a);
Problem problem(const SelectTokens &a, bool rank_order);
Problem problem(const RouteSlots &a);
Problem problem(const SelectSlots &a);
Problem problem(const CopyIndices &a);     // selected, narrow
Problem problem(const Project &a);         // rows, dim_in, dim_out, head_dim, heads, plain, rotary, aligned
Problem problem(const Attention &a);       // queries, keys, head_dim, heads, aligned
Problem problem(const LocalAttention &a);  // positions, window, slots, head_dim, heads, plain, exact, masked, turned, aligned
Problem problem(const Combine &a);
Problem problem(const RotaryTable &a);

// Bytes a thread that a row's kernel may ask of halide_malloc. 0 for rows whose scratch fits on the stack: blocks of up to
// 16 KiB are there, larger ones come from halide_malloc even if the schedule says MemoryType::Stack.
size_t scratch_bytes(const Row &row, const RouterScores &a);
size_t scratch_bytes(const Row &row, const RowStatistics &a);
size_t scratch_bytes(const Row &row, const CoordinateDescent &a);
size_t scratch_bytes(const Row &row, const CoordinateDescentStep &a);
size_t scratch_bytes(const Row &row, const CoordinateDescentFinish &a);
size_t scratch_bytes(const Row &row, const SelectTokens &a);
size_t scratch_bytes(const Row &row, const RouteSlots &a);
size_t scratch_bytes(const Row &row, const SelectSlots &a);
size_t scratch_bytes(const Row &row, const CopyIndices &a);
size_t scratch_bytes(const Row &row, const Project &a);
size_t scratch_bytes(const Row &row, const Attention &a);
size_t scratch_bytes(const Row &row, const LocalAttention &a);
size_t scratch_bytes(const Row &row, const Combine &a);
size_t scratch_bytes(const Row &row, const RotaryTable &a);

// What a launch does, counted for what takes time on a CPU.
struct Work {
    double flops = 0;  // what costs more than a multiplication counts as several
    double bytes = 0;  // read and written, each once
};
Work work(const RouterScores &a);
Work work(const RowStatistics &a);
Work work(const CoordinateDescent &a);
Work work(const CoordinateDescentStep &a);
Work work(const CoordinateDescentFinish &a);
Work work(const SelectTokens &a);
Work work(const RouteSlots &a);
Work work(const SelectSlots &a);
Work work(const CopyIndices &a);
Work work(const Project &a);
Work work(const Attention &a);
Work work(const LocalAttention &a);
Work work(const Combine &a);
Work work(const RotaryTable &a);

// How many threads a launch pays for, of at most `most`: the number that would end it first.
int threads_for(const Row &row, const Work &work, int most);

}  // namespace moa::ops
