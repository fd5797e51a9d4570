#pragma once

#include "workloads/layers.h"

#include <cmath>
#include <initializer_list>
#include <map>
#include <string>
#include <utility>

namespace moa::workloads {

// Fills a LayerInstance: tensors, weights, counts, and how a plan is made.
class LayerMaker {
public:
    explicit LayerMaker(LayerInstance &instance)
        : instance_(instance) {
    }
    DType dtype() const {
        return instance_.dtype();
    }
    const LayerInstance &instance() const {
        return instance_;
    }

    // Standard normal numbers of the storage dtype, or of f32.
    void input(std::string_view name, std::initializer_list<int64_t> shape);
    void scores(std::string_view name, std::initializer_list<int64_t> shape);
    void mask(std::string_view name, std::initializer_list<int64_t> shape);         // all valid
    void random_mask(std::string_view name, std::initializer_list<int64_t> shape);  // about a third is masked
    void output(std::string_view name, DType dtype, std::initializer_list<int64_t> shape);

    // Weights, alive until the layer was created from weights(). A matrix [out, in] has the deviation 1 / sqrt(in)
    // that keeps activations of size 1, other parameters the package's initial values.
    void matrix(const std::string &name, std::initializer_list<int64_t> shape, int64_t in);
    void parameter(const std::string &name, std::initializer_list<int64_t> shape);  // standard normal
    void gain(const std::string &name, std::initializer_list<int64_t> shape);       // ones
    void zeros(const std::string &name, std::initializer_list<int64_t> shape);
    void angles(const std::string &name, int64_t dim_head);  // of rotary positions
    const TensorMap &weights() const {
        return weights_;
    }

    // `outputs` outputs, each a sum of `inner` products.
    void count_products(std::initializer_list<int64_t> outputs, int64_t inner);
    void count_flops(double flops) {
        instance_.flops_ += flops;
    }

    void plan(std::function<Result<Plan>(const PlanOptions &)> make) {
        instance_.make_plan_ = std::move(make);
    }

private:
    TensorView add(std::string_view name, DType dtype, std::initializer_list<int64_t> shape);
    template<class Value>
    void weight(const std::string &name, std::initializer_list<int64_t> shape, bool is_matrix, Value value);
    void fill(const TensorView &view);
    double normal();

    LayerInstance &instance_;
    std::map<std::string, std::vector<float>> weight_memory_;
    TensorMap weights_;
};

// Local attention alone: a case of the suite.
Status local_case(LayerMaker &maker);

}  // namespace moa::workloads
