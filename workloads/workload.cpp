#include "workloads/workload.h"

#include "runtime/text.h"
#include "workloads/list.h"

#include <algorithm>
#include <cmath>
#include <new>

namespace moa::workloads {

Status Instance::prepare(const Row &) {
    return {};
}

double Instance::bytes() const {
    double total = 0;
    for (const Tensor &tensor : inputs_) {
        total += tensor.size_bytes();
    }
    for (const Tensor &tensor : outputs_) {
        total += tensor.size_bytes();
    }
    return total;
}

namespace {

std::vector<const Tensor *> pointers(const std::deque<Tensor> &tensors) {
    std::vector<const Tensor *> result;
    result.reserve(tensors.size());
    for (const Tensor &tensor : tensors) {
        result.push_back(&tensor);
    }
    return result;
}

}  // namespace

std::vector<const Tensor *> Instance::inputs() const {
    return pointers(inputs_);
}

std::vector<const Tensor *> Instance::outputs() const {
    return pointers(outputs_);
}

void Instance::poison() {
    for (Tensor &tensor : outputs_) {
        tensor.poison();
    }
}

void Instance::spoil(int64_t number, int64_t thousandths, NotFinite with) {
    if (number > static_cast<int64_t>(inputs_.size())) {
        throw ShapeError(text("bad{}: there are {} inputs", number, inputs_.size()));
    }
    Tensor &tensor = inputs_[number - 1];
    const int64_t elements = elements_of(tensor.extents());
    if (elements == 0 || (tensor.dtype() != DType::f32 && tensor.dtype() != DType::bf16 && tensor.dtype() != DType::f16)) {
        throw ShapeError(text("bad{}: {} holds no numbers", number, tensor.name()));
    }
    const int64_t place = elements * thousandths / 1000;
    tensor.spoil(place, with);
    constexpr std::string_view kNames[] = {"NaN", "infinity", "-infinity", "NaN of all bits"};
    spoiled_ = text("{} {} is {}", tensor.name(), index_text(tensor.extents(), place), kNames[static_cast<int>(with)]);
}

namespace {

// Where an infinity is wanted, sums of pieces and differences of infinities give NaN.
void accept_any_not_finite(std::vector<Expected> &expected) {
    for (Expected &output : expected) {
        for (size_t i = 0; i < output.value.data.size(); i++) {
            if (!std::isfinite(output.value.data[i]) && output.bound.data[i] != kOpen) {
                output.bound.data[i] = kNotFinite;
            }
        }
    }
}

}  // namespace

Report Instance::compare() {
    if (expected_.empty()) {
        expected_ = reference();
        if (!spoiled_.empty()) {
            accept_any_not_finite(expected_);
        }
    }
    Report result = workloads::compare(outputs_[0], expected_[0]);
    for (size_t i = 1; i < outputs_.size(); i++) {
        result = worse(result, workloads::compare(outputs_[i], expected_[i]));
    }
    return result;
}

// The first row, the last, and rows between them that lie irregularly, so that no tile's size hides among them.
bool Instance::sampled(int64_t row, int64_t rows) const {
    constexpr double kLeastRows = 16;
    const double part = std::max(reference_flops_ / flops(), kLeastRows / static_cast<double>(rows));
    if (!(part < 1) || row == 0 || row == rows - 1) {
        return true;
    }
    uint64_t mixed = static_cast<uint64_t>(row) * 0x9e3779b97f4a7c15;  // SplitMix64
    mixed = (mixed ^ mixed >> 30) * 0xbf58476d1ce4e5b9;
    mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111eb;
    return static_cast<double>((mixed ^ mixed >> 31) >> 11) * 0x1p-53 < part;
}

std::vector<std::byte> Instance::output_bytes() const {
    std::vector<std::byte> result;
    for (const Tensor &tensor : outputs_) {
        const std::vector<std::byte> part = tensor.element_bytes();
        result.insert(result.end(), part.begin(), part.end());
    }
    return result;
}

Tensor &Instance::input(std::string name, DType dtype, const Array &values, const Layout &layout,
                        uint32_t broadcast_axes) {
    Tensor &tensor = inputs_.emplace_back(std::move(name), dtype, values.extents, layout, broadcast_axes);
    tensor.assign(values);
    return tensor;
}

Tensor &Instance::output(std::string name, DType dtype, Extents extents, const Layout &layout) {
    Tensor &tensor = outputs_.emplace_back(std::move(name), dtype, std::move(extents), layout);
    tensor.poison();
    return tensor;
}

namespace {

// "" of a list leaves its option out.
Workload::Texts combined(const std::vector<Workload::Texts> &lists) {
    Workload::Texts result;
    for (const Workload::Texts &list : lists) {
        if (result.empty()) {
            result = list;
            continue;
        }
        Workload::Texts longer;
        for (const std::string &head : result) {
            for (const std::string &option : list) {
                longer.push_back(option.empty() ? head : text("{}_{}", head, option));
            }
        }
        result = std::move(longer);
    }
    return result;
}

}  // namespace

Workload::Workload(std::string_view name, bool any_dtype, std::vector<Key> keys, Shapes shapes, Build build)
    : name_(name), any_dtype_(any_dtype), keys_(std::move(keys)), shapes_(std::move(shapes)),
      combinations_(combined(shapes_.options)), build_(build) {
    const std::span<const Key> common = common_keys();
    keys_.insert(keys_.end(), common.begin(), common.end());
    for (const std::vector<Texts> &lists : shapes_.not_finite) {
        const Texts texts = combined(lists);
        not_finite_.insert(not_finite_.end(), texts.begin(), texts.end());
    }
}

std::span<const Key> Workload::common_keys() {
    static constexpr Key kKeys[] = {
        {"bad", 0, 0, 64, "an input, counted from 1, one element of which is not finite; 0: none"},
        {"at", 500, 0, 999, "which element: thousandths of the way from the first to the last"},
        {"as", 0, 0, 3, "what it is: 0 NaN, 1 infinity, 2 -infinity, 3 a NaN of all bits"},
    };
    return kKeys;
}

std::vector<DType> Workload::dtypes() const {
    return any_dtype_ ? std::vector{DType::f32} : std::vector{DType::f32, DType::bf16, DType::f16};
}

std::span<const std::string> Workload::shapes(Intent intent) const {
    switch (intent) {
    case Intent::smoke:
        return shapes_.smoke;
    case Intent::regular:
        return shapes_.regular;
    case Intent::irregular:
        return shapes_.irregular;
    case Intent::options:
        return combinations_;
    case Intent::not_finite:
        return not_finite_;
    case Intent::perf:
        return shapes_.perf;
    case Intent::edges:
        return shapes_.edges;
    }
    return {};
}

Result<std::unique_ptr<Instance>> Workload::make(const Case &wanted) const {
    const std::vector<DType> known = dtypes();
    if (std::find(known.begin(), known.end(), wanted.dtype) == known.end()) {
        return invalid("operation {} has no cases of dtype {}", name_, moa::name_of(wanted.dtype));
    }
    const Result<Shape> shape = Shape::parse(keys_, wanted.shape);
    if (!shape) {
        return shape.status();
    }
    try {
        std::unique_ptr<Instance> instance = build_(*shape, wanted.dtype, wanted.seed);
        instance->set_precision(wanted.precision);
        if (shape->has("bad")) {
            instance->spoil((*shape)("bad"), (*shape)("at"), static_cast<NotFinite>((*shape)("as")));
        }
        return instance;
    } catch (const ShapeError &error) {
        return invalid("shape '{}' of {}: {}", wanted.shape, name_, error.what());
    } catch (const std::bad_alloc &) {
        return Status(Code::out_of_memory,
                      text("shape '{}' of {}: no memory for its tensors", wanted.shape, name_));
    }
}

#define MOA_DECLARE(op) const Workload &op##_workload();
MOA_WORKLOADS(MOA_DECLARE)
#undef MOA_DECLARE

std::span<const Workload *const> all_workloads() {
#define MOA_ADDRESS(op) &op##_workload(),
    static const Workload *const workloads[] = {MOA_WORKLOADS(MOA_ADDRESS)};
#undef MOA_ADDRESS
    return workloads;
}

const Workload *find_workload(std::string_view op) {
    for (const Workload *workload : all_workloads()) {
        if (workload->name() == op) {
            return workload;
        }
    }
    return nullptr;
}

DType dtype_of(const Row &row) {
    return storage_of(row.dtype);
}

Precision precision_of(const Row &row) {
    return row.dtype == "tf32" ? Precision::tf32 : Precision::exact;
}

std::string replay(const Case &replayed, const Row &row, int threads) {
    const std::string where = row.device == DeviceType::cuda ? "--device cuda:0" : text("--threads {}", threads);
    return text("moa bench --op {} --shape {} --row {} --seed {} {}", replayed.op, replayed.shape, row.name, replayed.seed, where);
}

}  // namespace moa::workloads
