#include "tools/cases/verify_case.h"

#include "runtime/cuda/mirrors.h"
#include "runtime/elements.h"
#include "runtime/text.h"
#include "tools/cases/row_notes.h"

#include <algorithm>
#include <utility>

namespace moa::tools {

namespace {

constexpr double kNear = 1e-5;  // similarities in f32 may round to either side of each other

// The dtype that the plan stores the argument in; f32 if it has none of that name.
DType stored_as(const Plan &plan, const std::string &name) {
    for (const Plan::Argument &argument : plan.arguments()) {
        if (argument.name == name) {
            return argument.dtype;
        }
    }
    return DType::f32;
}

bool is_narrow(DType dtype) {
    return is_storage(dtype) && dtype != DType::f32;
}

}  // namespace

std::string_view name_of(Verdict verdict) {
    return verdict == Verdict::pass ? "PASS" : (verdict == Verdict::fail ? "FAIL" : "UNSUPPORTED");
}

Result<Outputs> run_case(const CaseLayer &layer, const Plan &plan, const Plan *rounded_as) {
    std::map<std::string, HostTensor> memory;
    Outputs outputs;
    std::vector<NamedTensor> tensors;
    for (const Plan::Argument &argument : plan.arguments()) {
        if (argument.output) {
            const auto made = outputs.emplace(argument.name, HostTensor(argument.dtype, argument.shape)).first;
            tensors.push_back({argument.name, made->second.view()});
            continue;
        }
        const auto given = layer.inputs.find(argument.name);
        if (given == layer.inputs.end()) {
            return Status(Code::internal, text("the case gives no {}", argument.name));
        }
        const DType storage = rounded_as == nullptr ? DType::f32 : stored_as(*rounded_as, argument.name);
        const HostTensor value = is_narrow(storage) ? given->second.converted(storage) : given->second;
        const auto made = memory.emplace(argument.name, value.converted(argument.dtype)).first;
        tensors.push_back({argument.name, made->second.view()});
    }
    if (Status status = cuda::run_with_host_tensors(plan, tensors); !status) {
        return status;
    }
    return outputs;
}

namespace {

// A case's runs in one dtype, and what they are compared with.
class Verification {
public:
    Verification(const CaseLayer &layer, const PlanOptions &options)
        : layer_(layer), options_(options) {
    }

    Status run();
    CaseReport report() const;

private:
    Status find_precision();
    HostTensor wanted(const CaseOutput &output) const;
    OutputReport compare(const CaseOutput &output) const;
    OutputReport compare_route(const CaseOutput &output) const;

    const CaseLayer &layer_;
    const PlanOptions &options_;
    Precision precision_ = Precision::exact;
    bool rounds_ = false;      // on the way, more than f32 does
    Outputs got_;              // with recorded routes imposed below f32
    Outputs selected_;         // with the layer's own routes; below f32
    Outputs exact_, rounded_;  // in f32, of the inputs as they are and of the rounded ones; below f32
    std::vector<std::string> rows_, warnings_;
    std::map<std::string, double> roundoffs_;  // of outputs that are rounded on the way
};

// f32 runs exactly whatever its precision is, unless a row multiplies in tf32.
Status Verification::find_precision() {
    rounds_ = inner_roundoff(options_.dtype, Precision::exact) > 0;
    if (options_.precision == Precision::exact) {
        return {};
    }
    const Result<Plan> plan = layer_.plan(options_, false);
    if (!plan.ok()) {
        return plan.status();
    }
    const std::vector<std::string> rows = rows_of(plan->steps());
    const auto built = built_rows();
    const bool tf32 = std::any_of(built.begin(), built.end(), [&](const Row &row) { return row.dtype == "tf32" && std::find(rows.begin(), rows.end(), row.name) != rows.end(); });
    precision_ = tf32 ? options_.precision : Precision::exact;
    rounds_ = inner_roundoff(options_.dtype, precision_) > 0;
    return {};
}

Status Verification::run() {
    if (Status status = find_precision(); !status) {
        return status;
    }
    if (rounds_ && layer_.routes_missing) {
        return {Code::unsupported, "its routes were not recorded, and below f32 rounding moves them"};
    }
    const auto execute = [&](const PlanOptions &options, bool impose, const Plan *rounded_as, Outputs &outputs) -> Result<Plan> {
        Result<Plan> plan = layer_.plan(options, impose);
        if (!plan.ok()) {
            return plan;
        }
        Result<Outputs> results = run_case(layer_, *plan, rounded_as);
        if (!results.ok()) {
            return results.status();
        }
        outputs = *std::move(results);
        return plan;
    };
    const Result<Plan> plan = execute(options_, rounds_, nullptr, got_);
    if (!plan.ok()) {
        return plan.status();
    }
    rows_ = rows_of(plan->steps());
    warnings_ = reference_warnings(plan->steps(), options_.rows);
    for (const auto &[name, tensor] : got_) {
        // Similarities and soft scores are f32 and exact in every precision.
        if (is_narrow(tensor.dtype()) || (tensor.dtype() == DType::f32 && name == "out")) {
            roundoffs_[name] = inner_roundoff(tensor.dtype(), precision_);
        }
    }
    if (!rounds_) {
        return {};
    }
    PlanOptions f32;
    f32.device = options_.device;
    f32.threads = options_.threads;
    for (const Result<Plan> &other : {execute(options_, false, nullptr, selected_), execute(f32, true, nullptr, exact_), execute(f32, true, &*plan, rounded_)}) {
        if (!other.ok()) {
            return other.status();
        }
    }
    return {};
}

// Below f32, the recorded output and what rounding the inputs changes in it. That change is the case's and not the kernels'
// (soft scores amplify it by 1 / eps); the f32 layer, which is checked against the recording itself, tells how large it is.
HostTensor Verification::wanted(const CaseOutput &output) const {
    const HostTensor &want = *output.want;
    const auto exact = exact_.find(output.argument), rounded = rounded_.find(output.argument);
    if (exact == exact_.end() || rounded == rounded_.end()) {
        return want;
    }
    HostTensor moved = want.converted(DType::f64);
    for (size_t i = 0; i < want.size(); i++) {
        const size_t place = output.order.empty() ? i : output.order[i];
        moved.set(i, want[i] + (rounded->second[place] - exact->second[place]));
    }
    return moved;
}

OutputReport Verification::compare(const CaseOutput &output) const {
    const HostTensor want = wanted(output);
    const auto roundoff = roundoffs_.find(output.argument);
    return compare_values(output, got_.find(output.argument)->second, want, tolerances(want, roundoff == roundoffs_.end() ? 0 : roundoff->second, layer_.roundings));
}

OutputReport Verification::compare_route(const CaseOutput &output) const {
    const Selection &selection = *output.selection;
    const HostTensor *mask = selection.mask.empty() ? nullptr : &layer_.inputs.find(selection.mask)->second;
    if (!rounds_) {
        return compare_selection(output, got_.find(output.argument)->second, *output.want, *selection.recorded, mask, kNear);
    }
    const HostTensor &similarities = selected_.find(selection.similarities)->second;
    const HostTensor want = select_by_rule(selection, similarities, mask, output.want->shape()[2]);
    return compare_selection(output, selected_.find(output.argument)->second, want, similarities, mask, 0);
}

CaseReport Verification::report() const {
    CaseReport result;
    result.rows = rows_;
    result.warnings = warnings_;
    for (const CaseOutput &output : layer_.outputs) {
        if (output.want) {
            result.outputs.push_back(output.selection ? compare_route(output) : compare(output));
            result.verdict = result.outputs.back().pass() ? result.verdict : Verdict::fail;
        }
    }
    return result;
}

Status check_shapes(const CaseLayer &layer, const RecordedCase &recorded) {
    for (const CaseOutput &output : layer.outputs) {
        if (!output.want) {
            continue;
        }
        if (output.selection && !output.selection->recorded) {
            return invalid("{} was recorded without the similarities", output.name);
        }
        if (output.order.empty() && output.want->shape() != output.shape && !output.selection) {
            return invalid("{} is {}, must be {}", output.name, text_of(output.want->shape()), text_of(output.shape));
        }
    }
    for (const auto &[name, tensor] : recorded.file.tensors("out.")) {
        // A router's indices are its route, too.
        const std::string wanted = name == "indices" ? "route.router.idx" : "out." + name;
        if (std::none_of(layer.outputs.begin(), layer.outputs.end(), [&](const CaseOutput &o) { return o.name == wanted && o.want; })) {
            return invalid("out.{} is none of {}'s outputs", name, recorded.module);
        }
    }
    return {};
}

}  // namespace

Result<CaseReport> verify_case(const RecordedCase &recorded, const PlanOptions &options) {
    const auto without_outputs = [](Verdict verdict, const Status &status) { return CaseReport{verdict, status.message(), {}, {}, {}}; };
    const auto unsupported = [&](const Status &status) { return without_outputs(Verdict::unsupported, status); };
    const Result<CaseLayer> layer = layer_of(recorded);
    if (!layer.ok()) {
        return layer.status().code() == Code::unsupported ? Result<CaseReport>(unsupported(layer.status())) : layer.status();
    }
    if (Status status = check_shapes(*layer, recorded); !status) {
        return status;
    }
    if (std::none_of(layer->outputs.begin(), layer->outputs.end(), [](const CaseOutput &o) { return o.want.has_value(); })) {
        return Status(invalid("the case has no recorded outputs"));
    }
    Verification verification(*layer, options);
    const Status status = verification.run();
    switch (status.code()) {
    case Code::ok:
        return verification.report();
    case Code::unsupported:
        return unsupported(status);
    case Code::internal:
    case Code::device_error:
    case Code::out_of_memory:  // the layer's failure, not the case's
        return without_outputs(Verdict::fail, status);
    default:
        return status;
    }
}

}  // namespace moa::tools
