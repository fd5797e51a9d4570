#include "runtime/plan_builder.h"

#include "runtime/cuda/memory.h"
#include "runtime/text.h"
#include "runtime/thread_pool.h"

#include <algorithm>
#include <bit>
#include <limits>

namespace moa {

Frame::Frame(const PlanImpl &plan, Run *run, std::byte *workspace, const TensorView *arguments, std::vector<int> *touched)
    : plan_(plan), run_(run), workspace_(workspace), arguments_(arguments), touched_(touched) {
}

View Frame::operator[](Handle handle) const {
    const PlanImpl::Tensor &tensor = plan_.tensors[handle.index];
    const int owner = tensor.same_as >= 0 ? tensor.same_as : handle.index;
    if (touched_ != nullptr) {
        touched_->push_back(owner);
    }
    View view = tensor.view;
    if (tensor.kind == PlanImpl::Tensor::Kind::temporary && workspace_ != nullptr) {
        view.data = workspace_ + plan_.tensors[owner].offset + tensor.part;
    } else if (tensor.kind == PlanImpl::Tensor::Kind::argument && arguments_ != nullptr) {
        view = View::of(arguments_[tensor.argument]);
        view.dtype = tensor.view.dtype;  // boolean masks are read as u8
        for (int axis = 0; axis < view.rank; axis++) {
            if (view.axes[axis].extent == 1) {
                view.axes[axis].stride = tensor.view.axes[axis].stride;  // leads nowhere; rows may ask for multiples
            }
        }
    }
    if (misaligned_ >= 0 && tensor.kind == PlanImpl::Tensor::Kind::argument && tensor.argument == misaligned_) {
        view.data = reinterpret_cast<void *>(Run::kNowhere + size_bytes(view.dtype));
        for (int axis = 1; axis < view.rank; axis++) {
            view.axes[axis].stride |= 1;
        }
    }
    return view;
}

bool Frame::bound(Handle handle) const {
    return handle && arguments_ != nullptr && arguments_[plan_.tensors[handle.index].argument].data != nullptr;
}

Status Frame::copy(const View &from, const View &to) const {
    return cuda::copy_elements(*run_->context(), run_->stream(), from, to);
}

Status Frame::fill(const View &to, float value) const {
    return cuda::fill_words(*run_->context(), run_->stream(), to, std::bit_cast<uint32_t>(value));
}

PlanBuilder::PlanBuilder(const PlanOptions &options)
    : options_(options), device_(describe_host()), plan_(std::make_shared<PlanImpl>()) {
    plan_->device = options.device;
    plan_->threads = options.threads > 0 ? options.threads : std::min(device_.cores, Run::kMaxThreads);
    if (options.threads < 0 || options.threads > Run::kMaxThreads) {
        fail(invalid("threads is {}, must be 0 (one a core) to {}", options.threads, Run::kMaxThreads));
    }
    ThreadPool::instance().follow_process();
    const DeviceType type = options.device.type;
    if (type == DeviceType::cpu && options.device != Device{}) {
        fail(invalid("device {}: there is one cpu, of index 0 or -1", name_of(options.device)));
    } else if (type != DeviceType::cpu && type != DeviceType::cuda) {
        fail(Status(Code::unsupported, text("device {}: plans are made for cpu and cuda", name_of(options.device))));
    } else if (type == DeviceType::cuda) {
        open_gpu();
    } else {
        plan_->device = {};
    }
    if (options.dtype != DType::f32 && options.dtype != DType::bf16 && (options.dtype != DType::f16 || type == DeviceType::cpu)) {
        fail(Status(Code::unsupported, text("dtype {}: layers run in f32 or bf16, and on GPUs in f16", name_of(options.dtype))));
    }
    check_forced_rows();
}

// Each is built, and the only one of its operation. Whether the plan has the operation is known at the end.
void PlanBuilder::check_forced_rows() {
    std::vector<std::string_view> operations;
    for (const std::string &name : options_.rows) {
        const auto rows = built_rows();
        const auto row = std::find_if(rows.begin(), rows.end(), [&](const Row &built) { return built.name == name; });
        if (row == rows.end()) {
            fail(Status(Code::not_found, text("no row named {} was built", name)));
        } else if (std::find(operations.begin(), operations.end(), row->op) != operations.end()) {
            fail(invalid("row {} is the second that is forced for {}", name, row->op));
        } else {
            operations.push_back(row->op);
        }
    }
}

void PlanBuilder::check_forced_steps() {
    for (const std::string &name : options_.rows) {
        if (std::none_of(plan_->steps.begin(), plan_->steps.end(), [&](const Plan::Step &step) { return step.row == name; })) {
            fail(Status(Code::unsupported, text("row {} is forced, but no step of this plan is of its operation", name)));
        }
    }
}

void PlanBuilder::open_gpu() {
    const auto rows = built_rows();
    if (std::none_of(rows.begin(), rows.end(), [](const Row &row) { return row.device == DeviceType::cuda; })) {
        fail(Status(Code::unsupported, text("device {}: this build has rows for the cpu only", name_of(options_.device))));
        return;
    }
    Result<std::shared_ptr<const cuda::Context>> context = cuda::Context::of(options_.device);
    if (!context.ok()) {
        fail(context.status());
        return;
    }
    plan_->context = std::move(*context);
    device_ = plan_->context->description();
}

void PlanBuilder::fail(Status status) {
    if (status_.ok()) {
        status_ = std::move(status);
    }
}

void PlanBuilder::keep(std::shared_ptr<const void> owner) {
    plan_->kept.push_back(std::move(owner));
}

Frame PlanBuilder::dry_frame(std::vector<int> *touched) const {
    return {*plan_, nullptr, nullptr, nullptr, touched};
}

void PlanBuilder::add(const std::vector<int> &touched, PlanImpl::Action action) {
    const int step = static_cast<int>(plan_->actions.size());
    for (const int index : touched) {
        PlanImpl::Tensor &tensor = plan_->tensors[index];
        tensor.first_use = tensor.first_use < 0 ? step : tensor.first_use;
        tensor.last_use = step;
    }
    plan_->actions.push_back(std::move(action));
    plan_->uses.push_back({touched, 0, scratch_of_step_, {}});
    scratch_of_step_ = 0;
}

void PlanBuilder::use_cpu(int threads, size_t scratch_bytes_per_thread) {
    plan_->steps.back().threads = threads;
    plan_->scratch_bytes = std::max(plan_->scratch_bytes, rounded(scratch_bytes_per_thread) * static_cast<size_t>(threads));
}

void PlanBuilder::check(PlanImpl::Action check) {
    if (ok()) {
        plan_->checks.push_back(std::move(check));
    }
}

void PlanBuilder::host(std::string name, std::initializer_list<Handle> uses, PlanImpl::Action action) {
    if (!ok()) {
        return;
    }
    std::vector<int> touched;
    const Frame frame = dry_frame(&touched);
    for (const Handle handle : uses) {
        (void)frame[handle];
    }
    plan_->steps.push_back({.name = std::move(name), .reason = on_gpu() ? "copies and fills" : "host", .threads = on_gpu() ? 0 : 1});
    add(touched, std::move(action));
}

Result<Plan> PlanBuilder::finish() {
    plan_->description = device_;
    if (ok()) {
        check_forced_steps();
    }
    if (!ok()) {
        return status_;
    }
    place_temporaries();
    if (on_gpu()) {
        place_stand_ins();
        place_scratch();
        order_steps();
    }
    return Plan(std::shared_ptr<const PlanImpl>(plan_));
}

}  // namespace moa
