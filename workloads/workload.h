#pragma once

#include "moa/rows.h"
#include "moa/status.h"
#include "runtime/ops.h"
#include "runtime/run.h"
#include "workloads/random.h"
#include "workloads/report.h"
#include "workloads/shape.h"
#include "workloads/tensor.h"

#include <cstdint>
#include <deque>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

// One description of each operation: shapes by intent, seeded data, a reference in double precision written
// apart from the generators, floating-point operations, bytes and tolerance. Tests, bench, tuner and the tool
// all use it.
namespace moa::workloads {

enum class Intent : uint8_t {
    smoke,       // one quick case
    regular,     // what layers ask for, in moderate sizes
    irregular,   // lengths of 1, primes, one-off tiles, masks, strides, NaN
    options,     // every combination of options, small
    not_finite,  // NaN and infinities where something depends on them, and where nothing does
    perf,        // sizes worth timing
    edges        // where rows begin and end to take problems, with as little work as gets there
};

struct Case {
    std::string op;
    DType dtype = DType::f32;
    Precision precision = Precision::exact;  // of products of f32: what rows of dtype "tf32" are for
    std::string shape;
    uint64_t seed = 1;
};

// A case with its tensors.
class Instance {
public:
    Instance(DType dtype, uint64_t seed)
        : dtype_(dtype), random_(seed) {
    }
    void set_precision(Precision precision) {
        if (precision != precision_) {
            forget_reference();
        }
        precision_ = precision;
    }
    // From here on the reference takes about so many operations: where all of its rows would take more, it computes some and
    // asks of the others that they are finite, as Report::checked tells. Inputs must be finite. For operations that compute a row for itself: attention,
    // local_attention, project, router_scores. The others' references take a time that is linear in the tensors.
    void limit_reference(double flops) {
        reference_flops_ = flops;
        forget_reference();
    }
    virtual ~Instance() = default;
    Instance(const Instance &) = delete;
    Instance &operator=(const Instance &) = delete;

    virtual Problem problem() const = 0;
    // Brings arguments into the form that the row wants (packed weights). Before run(), once a row.
    virtual Status prepare(const Row &row);
    virtual Status run(Run &run, const Row &row) = 0;
    virtual size_t scratch_bytes(const Row &row) const = 0;  // a thread
    // Tensors beside inputs and outputs that run() reads, prepare() made them.
    virtual std::vector<const Tensor *> prepared() const {
        return {};
    }
    std::vector<const Tensor *> inputs() const;
    std::vector<const Tensor *> outputs() const;

    virtual double flops() const = 0;
    virtual double bytes() const;  // every argument once

    void poison();  // outputs become NaN, and no valid index either
    Report compare();
    // Puts a number that is not finite into an input, `thousandths` of the way from its first to its last element. The reference
    // then says which outputs it reaches: those may be NaN or infinite, and must be; all others are as without it.
    // Throws ShapeError where there is no such input, or none of numbers.
    void spoil(int64_t number, int64_t thousandths, NotFinite with);
    const std::string &spoiled() const {  // "" or what was put where
        return spoiled_;
    }
    std::vector<std::byte> output_bytes() const;

protected:
    // The values of every output, in the order of the output() calls.
    virtual std::vector<Expected> reference() const = 0;
    // What spoil() did not do: something that is no input is not finite.
    void spoil_prepared(std::string what) {
        spoiled_ = std::move(what);
    }
    void forget_reference() {
        expected_.clear();
    }
    // Whether the reference computes this one of the output's rows.
    bool sampled(int64_t row, int64_t rows) const;

    DType dtype() const {
        return dtype_;
    }
    Precision precision() const {
        return precision_;
    }
    Random &random() {
        return random_;
    }
    Tensor &input(std::string name, DType dtype, const Array &values, const Layout &layout = {},
                  uint32_t broadcast_axes = 0);
    Tensor &output(std::string name, DType dtype, Extents extents, const Layout &layout = {});

private:
    DType dtype_;
    Precision precision_ = Precision::exact;
    double reference_flops_ = std::numeric_limits<double>::infinity();
    Random random_;
    std::deque<Tensor> inputs_, outputs_;
    std::vector<Expected> expected_;
    std::string spoiled_;
};

// An instance whose arguments are the structure that moa::ops takes.
template<class Arguments>
class OpInstance : public Instance {
public:
    using Instance::Instance;

    Problem problem() const override {
        Problem problem = ops::problem(arguments_);
        problem.precision = precision();
        return problem;
    }
    Status run(Run &run, const Row &row) override {
        return ops::run(run, row, arguments_);
    }
    size_t scratch_bytes(const Row &row) const override {
        return ops::scratch_bytes(row, arguments_);
    }

protected:
    Arguments arguments_;
};

class Workload {
public:
    using Build = std::unique_ptr<Instance> (*)(const Shape &shape, DType dtype, uint64_t seed);
    using Texts = std::vector<std::string>;
    struct Shapes {
        Texts smoke, regular, irregular;
        std::vector<Texts> options;                  // one of every list, joined
        std::vector<std::vector<Texts>> not_finite;  // the same, several times
        Texts perf;
        Texts edges;
    };

    Workload(std::string_view name, bool any_dtype, std::vector<Key> keys, Shapes shapes, Build build);

    std::string_view name() const {
        return name_;
    }
    // Those of every workload, after its own: bad, at and as, what spoil() is told.
    static std::span<const Key> common_keys();
    // Storage dtypes that its cases can have; operations without storage tensors have f32 only.
    std::vector<DType> dtypes() const;
    std::span<const Key> keys() const {
        return keys_;
    }
    std::span<const std::string> shapes(Intent intent) const;
    // Fails with the offending text for shapes that are none, and for sizes that no memory holds.
    Result<std::unique_ptr<Instance>> make(const Case &wanted) const;

private:
    std::string_view name_;
    bool any_dtype_;
    std::vector<Key> keys_;
    Shapes shapes_;
    Texts combinations_, not_finite_;
    Build build_;
};

std::span<const Workload *const> all_workloads();
const Workload *find_workload(std::string_view op);  // null: none of that name

// The case that a row's dtype allows.
DType dtype_of(const Row &row);
Precision precision_of(const Row &row);
// The command line that runs a case again.
std::string replay(const Case &replayed, const Row &row, int threads);

}  // namespace moa::workloads
