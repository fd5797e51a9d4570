#include "runtime/prepared_linear.h"

#include "runtime/bf16.h"

#include <cstring>
#include <utility>

namespace moa {

namespace {

// Sums of the weights as the kernel sees them: a layer norm subtracts mean * colsum, which cancels exactly only so.
std::vector<float> column_sums(const PanelFormat &format, const std::vector<float> &weights, int64_t rows, int64_t in) {
    std::vector<float> sums(rows);
    for (int64_t o = 0; o < rows; o++) {
        double sum = 0;
        for (int64_t c = 0; c < in; c++) {
            const float w = weights[o * in + c];
            sum += format.dtype == DType::bf16 ? bf16_to_f32(f32_to_bf16(w)) : w;
        }
        sums[o] = static_cast<float>(sum);
    }
    return sums;
}

std::byte *aligned(std::byte *memory) {
    constexpr uintptr_t kAlignment = 64;
    const auto address = reinterpret_cast<uintptr_t>(memory);
    return memory + (kAlignment - address % kAlignment) % kAlignment;
}

}  // namespace

PreparedLinear::PreparedLinear(int64_t experts, int64_t out, int64_t in, std::vector<float> weights, std::vector<float> bias)
    : experts_(experts), out_(out), in_(in), weights_(std::move(weights)), bias_(std::move(bias)) {
    bias_.resize(static_cast<size_t>(experts * out), 0.f);
}

const PreparedLinear::Packed &PreparedLinear::packed(const PanelFormat &format) const {
    const std::lock_guard lock(mutex_);
    auto &entry = packed_[format];
    if (!entry) {
        auto made = std::make_unique<Packed>();
        made->memory = std::make_unique<std::byte[]>(packed_bytes(format, out_, in_, experts_) + 64);
        std::byte *panels = aligned(made->memory.get());
        pack_panels(format, weights_.data(), out_, in_, experts_, panels);
        made->panels = packed_view(format, panels, out_, in_, experts_);
        made->colsum = column_sums(format, weights_, experts_ * out_, in_);
        made->colsum_view = View::dense(made->colsum.data(), DType::f32, {out_, experts_});
        entry = std::move(made);
    }
    return *entry;
}

View PreparedLinear::bias_view() const {
    return View::dense(const_cast<float *>(bias_.data()), DType::f32, {out_, experts_});
}

}  // namespace moa
