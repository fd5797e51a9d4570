#include "runtime/plan_builder.h"

#include "runtime/cuda/memory.h"
#include "runtime/text.h"
#include "runtime/thread_pool.h"

#include <algorithm>
#include <bit>
#include <limits>

namespace moa {

namespace {

View dense_view(void *data, DType dtype, const std::vector<int64_t> &shape) {
    return View::of(TensorView(data, dtype, std::span<const int64_t>(shape)));
}

int64_t product(const std::vector<int64_t> &shape) {
    int64_t elements = 1;
    for (const int64_t extent : shape) {
        if (extent != 0 && elements > std::numeric_limits<int64_t>::max() / 16 / extent) {
            return -1;
        }
        elements *= extent;
    }
    return elements;
}

}  // namespace

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
    if (options.device.type != DeviceType::cpu) {
        open_gpu();
    }
    if (options.dtype != DType::f32 && options.dtype != DType::bf16 && (options.dtype != DType::f16 || options.device.type == DeviceType::cpu)) {
        fail(Status(Code::unsupported, text("dtype {}: layers run in f32 or bf16, and on GPUs in f16", name_of(options.dtype))));
    }
    for (const std::string &name : options.rows) {
        const auto rows = built_rows();
        if (std::none_of(rows.begin(), rows.end(), [&](const Row &row) { return row.name == name; })) {
            fail(Status(Code::not_found, text("no row named {} was built", name)));
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

Handle PlanBuilder::input(std::string name, DType dtype, std::vector<int64_t> shape) {
    const Handle handle = output(std::move(name), dtype, std::move(shape));
    plan_->arguments.back().output = false;
    return handle;
}

Handle PlanBuilder::output(std::string name, DType dtype, std::vector<int64_t> shape, bool optional) {
    PlanImpl::Tensor tensor(PlanImpl::Tensor::Kind::argument);
    tensor.argument = static_cast<int>(plan_->arguments.size());
    const int64_t elements = product(shape);
    if (std::any_of(shape.begin(), shape.end(), [](int64_t extent) { return extent < 0; })) {
        fail(invalid("{} has a negative size: {}", name, text_of(shape)));
    } else if (elements < 0 || elements > std::numeric_limits<int32_t>::max()) {
        fail(invalid("{} {} has more than 2^31 - 1 elements, which no kernel indexes", name, text_of(shape)));
    }
    tensor.view = dense_view(nullptr, dtype == DType::boolean ? DType::u8 : dtype, shape);
    plan_->arguments.push_back({std::move(name), dtype, std::move(shape), true, optional});
    plan_->tensors.push_back(tensor);
    return Handle{static_cast<int>(plan_->tensors.size()) - 1};
}

Handle PlanBuilder::temporary(DType dtype, std::vector<int64_t> shape) {
    PlanImpl::Tensor tensor(PlanImpl::Tensor::Kind::temporary);
    const int64_t elements = product(shape);
    if (elements < 0 || elements > std::numeric_limits<int32_t>::max()) {
        fail(invalid("an intermediate of shape {} has more than 2^31 - 1 elements, which no kernel indexes", text_of(shape)));
        shape.assign(shape.size(), 0);
    }
    tensor.view = dense_view(nullptr, dtype, shape);
    tensor.bytes = rounded(static_cast<size_t>(std::max<int64_t>(elements, 0)) * size_bytes(dtype));
    plan_->tensors.push_back(tensor);
    return Handle{static_cast<int>(plan_->tensors.size()) - 1};
}

Handle PlanBuilder::reshape(Handle temporary, const std::vector<int64_t> &shape) {
    PlanImpl::Tensor tensor = plan_->tensors[temporary.index];
    tensor.same_as = tensor.same_as >= 0 ? tensor.same_as : temporary.index;
    tensor.view = dense_view(nullptr, tensor.view.dtype, shape);
    tensor.bytes = 0;
    plan_->tensors.push_back(tensor);
    return Handle{static_cast<int>(plan_->tensors.size()) - 1};
}

Handle PlanBuilder::insert(Handle temporary, int axis, int64_t extent) {
    PlanImpl::Tensor tensor = plan_->tensors[temporary.index];
    tensor.same_as = tensor.same_as >= 0 ? tensor.same_as : temporary.index;
    tensor.view = tensor.view.insert(axis, {extent, 0});
    tensor.bytes = 0;
    plan_->tensors.push_back(tensor);
    return Handle{static_cast<int>(plan_->tensors.size()) - 1};
}

Handle PlanBuilder::crop(Handle temporary, int axis, int64_t begin, int64_t extent) {
    PlanImpl::Tensor tensor = plan_->tensors[temporary.index];
    tensor.same_as = tensor.same_as >= 0 ? tensor.same_as : temporary.index;
    tensor.part += static_cast<size_t>(begin * tensor.view.axes[axis].stride) * size_bytes(tensor.view.dtype);
    tensor.view = tensor.view.crop(axis, begin, extent);
    tensor.bytes = 0;
    plan_->tensors.push_back(tensor);
    return Handle{static_cast<int>(plan_->tensors.size()) - 1};
}

Handle PlanBuilder::constant(std::shared_ptr<const std::vector<float>> values, const std::vector<int64_t> &shape) {
    const void *data = values->data();
    return constant(std::move(values), data, DType::f32, shape);
}

Handle PlanBuilder::constant(std::shared_ptr<const std::vector<int32_t>> values, const std::vector<int64_t> &shape) {
    const void *data = values->data();
    return constant(std::move(values), data, DType::i32, shape);
}

Handle PlanBuilder::constant(std::shared_ptr<const void> owner, const void *values, DType dtype, const std::vector<int64_t> &shape) {
    PlanImpl::Tensor tensor(PlanImpl::Tensor::Kind::constant);
    tensor.view = dense_view(const_cast<void *>(values), dtype, shape);
    if (on_gpu() && ok()) {
        const size_t bytes = static_cast<size_t>(std::max<int64_t>(product(shape), 0)) * size_bytes(dtype);
        Result<std::shared_ptr<const cuda::DeviceMemory>> memory = cuda::shared_upload(plan_->context, owner, values, bytes);
        if (!memory.ok()) {
            fail(memory.status());
        } else {
            tensor.view.data = (*memory)->data();
            keep(std::move(*memory));
        }
    } else {
        keep(std::move(owner));
    }
    plan_->tensors.push_back(tensor);
    return Handle{static_cast<int>(plan_->tensors.size()) - 1};
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

void PlanBuilder::host(std::string name, std::initializer_list<Handle> uses, PlanImpl::Action action) {
    std::vector<int> touched;
    const Frame frame = dry_frame(&touched);
    for (const Handle handle : uses) {
        (void)frame[handle];
    }
    plan_->steps.push_back({.name = std::move(name), .reason = on_gpu() ? "copies and fills" : "host", .threads = on_gpu() ? 0 : 1});
    add(touched, std::move(action));
}

Result<Plan> PlanBuilder::finish() {
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
