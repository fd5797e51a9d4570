#include "runtime/plan_builder.h"
#include "runtime/select.h"
#include "runtime/text.h"

#include <algorithm>

// The rows of a plan's steps: chosen with the arguments that they are going to have, so that none is taken that refuses them.
namespace moa {

Result<Choice> PlanBuilder::find_row(Problem problem, const Launch &launch) const {
    problem.precision = options_.precision;
    return select_rehearsed(problem, device_, built_rows(), options_.rows, [&](const Row &row) {
        Run run = Run::rehearsal(device_);
        return launch(run, row, dry_frame(nullptr));
    });
}

// On a GPU: loads the row and measures what its launch takes.
Status PlanBuilder::load(const Row &row, const Launch &launch, Plan::Step &step) {
    const cuda::Current current(*plan_->context);
    if (!current.status().ok()) {
        return current.status();
    }
    Run run = Run::rehearsal(*plan_->context);
    Status status = launch(run, row, dry_frame(nullptr));
    step.launches = run.gpu_launches();
    scratch_of_step_ = rounded(run.gpu_scratch_bytes());
    return status;
}

const Row *PlanBuilder::choose(const std::string &name, const Problem &problem, const std::vector<int> &touched, const Launch &launch) {
    if (!ok()) {
        return nullptr;
    }
    Plan::Step step{.name = name};
    const Launch load_too = [&](Run &run, const Row &row, const Frame &frame) {
        Status status = launch(run, row, frame);
        return status.ok() && on_gpu() ? load(row, launch, step) : status;
    };
    const Result<Choice> choice = find_row(problem, load_too);
    if (!choice.ok()) {
        fail(Status(choice.status().code(), name + ": " + choice.status().message()));
        return nullptr;
    }
    step.row = choice->row->name;
    step.reason = choice->reason;
    for (const Refusal &refusal : choice->passed_over) {
        step.passed_over.push_back(std::string(refusal.row->name) + ": " + refusal.reason);
    }
    plan_->steps.push_back(std::move(step));
    if (on_gpu()) {
        note_alignment(*choice->row, touched, launch);
    }
    return choice->row;
}

// Which arguments the row takes only where copies of 16 bytes take them: it is rehearsed with each of them elsewhere.
void PlanBuilder::note_alignment(const Row &row, const std::vector<int> &touched, const Launch &launch) {
    for (const int index : touched) {
        const int argument = plan_->tensors[index].argument;
        if (plan_->tensors[index].kind != PlanImpl::Tensor::Kind::argument || plan_->tensors[index].view.dtype == DType::u8) {
            continue;
        }
        Run run = Run::rehearsal(device_);
        if (launch(run, row, dry_frame(nullptr).misaligned(argument)).ok()) {
            continue;
        }
        std::vector<std::string> &aligned = plan_->steps.back().aligned;
        if (std::find(aligned.begin(), aligned.end(), plan_->arguments[argument].name) == aligned.end()) {
            aligned.push_back(plan_->arguments[argument].name);
        }
        const auto same = [&](const PlanImpl::StandIn &one) { return one.argument == argument; };
        if (std::none_of(plan_->stand_ins.begin(), plan_->stand_ins.end(), same)) {
            plan_->stand_ins.push_back({.argument = argument});
        }
    }
}

void PlanBuilder::project(const std::string &name, const std::shared_ptr<const PreparedLinear> &linear,
                          const std::function<ops::Project(const Frame &)> &make, int64_t first, int64_t count) {
    if (!ok()) {
        return;
    }
    const int64_t experts = count == 0 ? linear->experts() : count;
    const auto completed = [=](const Frame &f, const PreparedLinear::Packed &packed) {
        ops::Project arguments = make(f);
        arguments.weights = packed.panels.crop(packed.panels.rank - 1, first, experts);
        arguments.colsum = packed.colsum_view.crop(1, first, experts);
        arguments.bias = packed.bias_view.crop(1, first, experts);
        return arguments;
    };
    const Launch launch = [&](Run &run, const Row &row, const Frame &f) {
        const Result<const PreparedLinear::Packed *> packed = linear->packed(format_of(row), plan_->context);
        return packed.ok() ? ops::run(run, row, completed(f, **packed)) : packed.status();
    };
    std::vector<int> touched;
    const Problem problem = ops::problem(make(dry_frame(&touched)));
    const Row *row = choose(name, problem, touched, launch);
    if (row == nullptr) {
        return;
    }
    const PreparedLinear::Packed &packed = **linear->packed(format_of(*row), plan_->context);
    keep(linear);
    share_out(*row, completed(dry_frame(nullptr), packed));
    add(touched, [=, &packed](const Frame &f) { return ops::run(f.run(), *row, completed(f, packed)); });
}

}  // namespace moa
