#include "runtime/layers/local_tables.h"

#include <algorithm>
#include <cmath>

namespace moa {

namespace {

// Windows of up to that many positions stay as they are: rows for tensor cores are for some of them.
constexpr int64_t kSmallWindow = 128;

struct Turn {
    float cosine, sine;
};

// Slot t turns channel pair j by t * inv_freq[j].
Turn turn_of(const LocalWindows &w, int64_t t, int64_t j, double factor) {
    const double angle = static_cast<double>(t) * static_cast<double>(w.inv_freq[static_cast<size_t>(j)]);
    return {static_cast<float>(std::cos(angle) * factor), static_cast<float>(std::sin(angle) * factor)};
}

// xpos scales slot t by zeta_j ^ ((t - slots / 2) / base), keys by the inverse.
double power_of(const LocalWindows &w, int64_t t, int64_t j) {
    if (!w.use_xpos) {
        return 1;
    }
    const auto width = static_cast<float>(w.dim_head);
    const float zeta = (static_cast<float>(2 * j) + 0.4f * width) / (1.4f * width);
    return std::pow(static_cast<double>(zeta), static_cast<double>(t - w.slots() / 2) / w.xpos_scale_base);
}

}  // namespace

SeenWindows all_windows(const LocalWindows &w) {
    return {.window = w.window, .look_backward = w.look_backward, .look_forward = w.look_forward};
}

// Exact windows end window * look_backward positions back: one window more than there are keeps that beyond the first position.
SeenWindows seen_windows(const LocalWindows &w, int64_t length, bool masked) {
    SeenWindows seen;
    seen.window = std::min(w.window, std::max(length, kSmallWindow));
    const int64_t windows = std::max<int64_t>((length + seen.window - 1) / seen.window, 1);
    seen.look_backward = std::min(w.look_backward, windows);
    seen.look_forward = std::min(w.look_forward, windows);
    const int64_t padding = w.window - seen.window;  // of the one window that there is then
    const bool padding_seen = !masked && !w.causal && (!w.exact || w.look_forward > 0);
    seen.left_out = w.slots() - seen.slots();
    seen.left_outside = seen.left_out - padding;
    seen.zero_keys = padding_seen ? padding : 0;
    return seen;
}

SlotTables slot_tables(const LocalWindows &w, const SeenWindows &seen) {
    const int64_t slots = seen.slots(), d = w.dim_head, half = d / 2;
    const auto size = static_cast<size_t>(slots * d);
    const auto scale = static_cast<float>(w.scale);
    SlotTables tables{std::vector<float>(size, scale), std::vector<float>(size, 0.f), std::vector<float>(size, 1.f), std::vector<float>(size, 0.f)};
    if (w.inv_freq.empty()) {
        return tables;
    }
    // A window's own positions are slots look_backward * window and on for keys, and for queries the last window's.
    const int64_t keys_before = w.look_backward * w.window - seen.look_backward * seen.window;
    const int64_t queries_before = (w.slots() - w.window) - (seen.slots() - seen.window);
    for (int64_t t = 0; t < slots; t++) {
        for (int64_t c = 0; c < d; c++) {
            const int64_t j = c % half;
            const Turn query = turn_of(w, t + queries_before, j, power_of(w, t + queries_before, j) * w.scale);
            const Turn key = turn_of(w, t + keys_before, j, 1 / power_of(w, t + keys_before, j));
            const auto at = static_cast<size_t>(t * d + c);
            tables.q_cos[at] = query.cosine;
            tables.q_sin[at] = query.sine;
            tables.k_cos[at] = key.cosine;
            tables.k_sin[at] = key.sine;
        }
    }
    return tables;
}

}  // namespace moa
