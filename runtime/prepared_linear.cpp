#include "runtime/prepared_linear.h"

#include "moa/huge_pages.h"
#include "runtime/caught.h"
#include "runtime/elements.h"

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
            sum += rounded_to(format.precision(), weights[o * in + c]);
        }
        sums[o] = static_cast<float>(sum);
    }
    return sums;
}

constexpr size_t kAlignment = 256;

std::byte *aligned(std::byte *memory) {
    const auto address = reinterpret_cast<uintptr_t>(memory);
    return memory + (kAlignment - address % kAlignment) % kAlignment;
}

}  // namespace

PreparedLinear::PreparedLinear(int64_t experts, int64_t out, int64_t in, std::vector<float> weights, std::vector<float> bias)
    : experts_(experts), out_(out), in_(in), weights_(std::move(weights)), bias_(std::move(bias)) {
    bias_.resize(static_cast<size_t>(experts * out), 0.f);
}

PreparedLinear::~PreparedLinear() {
    for (const Entry *entry = entries_; entry != nullptr;) {
        const std::unique_ptr<const Entry> gone(entry);
        entry = entry->next;
    }
}

PreparedLinear::Entry &PreparedLinear::entry(const PanelFormat &format, const cuda::Context *context) const {
    std::unique_ptr<Entry> made;
    for (Entry *head = entries_.load(std::memory_order_acquire);;) {
        for (Entry *known = head; known != nullptr; known = known->next) {
            if (known->format == format && known->context == context) {
                return *known;
            }
        }
        if (!made) {
            made.reset(new Entry{format, context, nullptr});
        }
        made->next = head;
        if (entries_.compare_exchange_strong(head, made.get(), std::memory_order_acq_rel, std::memory_order_acquire)) {
            return *made.release();
        }
    }
}

Result<const PreparedLinear::Packed *> PreparedLinear::packed(const PanelFormat &format, const std::shared_ptr<const cuda::Context> &context) const {
    Entry &known = entry(format, context.get());
    Status status;
    known.once.call([&] {
        Result<std::unique_ptr<const Packed>> made = pack(format, context);
        if (made.ok()) {
            known.packed = std::move(*made);
        }
        status = made.status();
        return status.ok();
    });
    return status.ok() ? Result<const Packed *>(known.packed.get()) : Result<const Packed *>(status);
}

Result<std::unique_ptr<const PreparedLinear::Packed>> PreparedLinear::pack(const PanelFormat &format, const std::shared_ptr<const cuda::Context> &context) const {
    auto made = std::make_unique<Packed>();
    const size_t bytes = packed_bytes(format, out_, in_, experts_);
    made->memory = with_memory(bytes + kAlignment, "packed weights", "", [&] { return std::make_unique_for_overwrite<std::byte[]>(bytes + kAlignment); });
    prefer_huge_pages({made->memory.get(), bytes + kAlignment});
    std::byte *panels = aligned(made->memory.get());
    pack_panels(format, weights_.data(), out_, in_, experts_, panels);
    made->panels = packed_view(format, panels, out_, in_, experts_);
    made->colsum = column_sums(format, weights_, experts_ * out_, in_);
    made->colsum_view = View::dense(made->colsum.data(), DType::f32, {out_, experts_});
    made->bias_view = View::dense(const_cast<float *>(bias_.data()), DType::f32, {out_, experts_});
    if (context) {
        if (Status status = move_to_gpu(*made, bytes, context); !status) {
            return status;
        }
    }
    return std::unique_ptr<const Packed>(std::move(made));
}

Status PreparedLinear::move_to_gpu(Packed &packed, size_t panel_bytes, const std::shared_ptr<const cuda::Context> &context) const {
    const size_t panels = (panel_bytes + kAlignment - 1) / kAlignment * kAlignment, rows = bias_.size() * sizeof(float);
    Result<std::shared_ptr<cuda::DeviceMemory>> memory = cuda::DeviceMemory::allocate(context, panels + 2 * rows);
    Status status = memory.status();
    if (status.ok()) {
        status = (*memory)->copy_from_host(packed.panels.data, panel_bytes);
    }
    if (status.ok()) {
        status = (*memory)->copy_from_host(packed.colsum.data(), rows, panels);
    }
    if (status.ok()) {
        status = (*memory)->copy_from_host(bias_.data(), rows, panels + rows);
    }
    if (!status.ok()) {
        return status;
    }
    packed.panels.data = (*memory)->data();
    packed.colsum_view.data = (*memory)->data() + panels;
    packed.bias_view.data = (*memory)->data() + panels + rows;
    packed.on_gpu = std::move(*memory);
    packed.memory.reset();
    return {};
}

}  // namespace moa
