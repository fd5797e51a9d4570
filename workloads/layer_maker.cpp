#include "workloads/layer_maker.h"

#include "runtime/elements.h"
#include "workloads/data.h"

#include <algorithm>

namespace moa::workloads {

double LayerMaker::normal() {
    return instance_.random_.normal();
}

TensorView LayerMaker::add(std::string_view name, DType dtype, std::initializer_list<int64_t> shape) {
    const double bytes = product_of(shape) * static_cast<double>(size_bytes(dtype));
    const TensorView view(instance_.allocate(static_cast<size_t>(bytes)), dtype, shape);
    instance_.tensors_.push_back({name, view});
    instance_.bytes_ += bytes;
    return view;
}

// With standard normal numbers.
void LayerMaker::fill(const TensorView &view) {
    auto *to = static_cast<std::byte *>(view.data);
    for (int64_t i = 0; i < view.elements(); i++, to += size_bytes(view.dtype)) {
        store_element(view.dtype, to, normal());
    }
}

void LayerMaker::input(std::string_view name, std::initializer_list<int64_t> shape) {
    fill(add(name, instance_.dtype(), shape));
}

void LayerMaker::scores(std::string_view name, std::initializer_list<int64_t> shape) {
    fill(add(name, DType::f32, shape));
}

void LayerMaker::mask(std::string_view name, std::initializer_list<int64_t> shape) {
    const TensorView view = add(name, DType::boolean, shape);
    std::fill_n(static_cast<uint8_t *>(view.data), view.elements(), uint8_t{1});
}

void LayerMaker::random_mask(std::string_view name, std::initializer_list<int64_t> shape) {
    const TensorView view = add(name, DType::boolean, shape);
    const Array drawn = mask_array(instance_.random_, {view.elements()}, Mask::random);
    std::transform(drawn.data.begin(), drawn.data.end(), static_cast<uint8_t *>(view.data), [](double valid) { return static_cast<uint8_t>(valid); });
}

void LayerMaker::output(std::string_view name, DType dtype, std::initializer_list<int64_t> shape) {
    add(name, dtype, shape);
    instance_.outputs_.push_back(instance_.tensors_.size() - 1);
    instance_.poison();
}

template<class Value>
void LayerMaker::weight(const std::string &name, std::initializer_list<int64_t> shape, bool is_matrix, Value value) {
    std::vector<float> &values = weight_memory_[name];
    values.resize(static_cast<size_t>(product_of(shape)));
    std::generate(values.begin(), values.end(), [&] { return static_cast<float>(value()); });
    weights_[name] = TensorView(values.data(), DType::f32, shape);
    // Matrices are packed in the storage dtype; the rest stays f32.
    const auto bytes = static_cast<double>(values.size() * size_bytes(is_matrix ? instance_.dtype() : DType::f32));
    instance_.weight_bytes_ += bytes;
    instance_.bytes_ += bytes;
}

void LayerMaker::matrix(const std::string &name, std::initializer_list<int64_t> shape, int64_t in) {
    const double deviation = 1 / std::sqrt(static_cast<double>(in));
    weight(name, shape, true, [&] { return deviation * normal(); });
}

void LayerMaker::parameter(const std::string &name, std::initializer_list<int64_t> shape) {
    weight(name, shape, false, [&] { return normal(); });
}

void LayerMaker::gain(const std::string &name, std::initializer_list<int64_t> shape) {
    weight(name, shape, false, [] { return 1.0; });
}

void LayerMaker::zeros(const std::string &name, std::initializer_list<int64_t> shape) {
    weight(name, shape, false, [] { return 0.0; });
}

void LayerMaker::angles(const std::string &name, int64_t dim_head) {
    int64_t j = 0;
    weight(name, {dim_head / 2}, false, [&] { return std::pow(10000.0, -2.0 * static_cast<double>(j++) / static_cast<double>(dim_head)); });
}

void LayerMaker::count_products(std::initializer_list<int64_t> outputs, int64_t inner) {
    instance_.flops_ += 2 * product_of(outputs) * static_cast<double>(inner);
}

}  // namespace moa::workloads
