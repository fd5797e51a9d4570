#include "workloads/gpu.h"

namespace moa::workloads {

Result<GpuInstance> GpuInstance::make(const Device &device, Instance &instance, const Row &row) {
    std::vector<std::span<std::byte>> blocks;
    for (const auto &list : {instance.outputs(), instance.inputs(), instance.prepared()}) {
        for (const Tensor *tensor : list) {
            blocks.push_back(tensor->storage());
        }
    }
    Result<cuda::Mirrors> mirrors = cuda::Mirrors::of(device, blocks);
    if (!mirrors.ok()) {
        return mirrors.status();
    }
    GpuInstance made(instance, row, *std::move(mirrors));
    made.outputs_ = instance.outputs().size();
    const cuda::Current current(made.context());
    Run rehearsal = Run::rehearsal(made.context());
    Status status = current.status().ok() ? instance.run(rehearsal, row) : current.status();
    if (!status.ok()) {
        return status;
    }
    made.launches_ = rehearsal.gpu_launches();
    Result<std::shared_ptr<cuda::DeviceMemory>> scratch = cuda::DeviceMemory::allocate(made.context().shared_from_this(), rehearsal.gpu_scratch_bytes());
    if (!scratch.ok()) {
        return scratch.status();
    }
    made.scratch_ = *std::move(scratch);
    status = made.mirrors_.upload_all();
    return status.ok() ? Result<GpuInstance>(std::move(made)) : Result<GpuInstance>(status);
}

Status GpuInstance::launch(void *stream) const {
    const cuda::Current current(context());
    if (!current.status().ok()) {
        return current.status();
    }
    Run run(context(), stream, {scratch_->data(), scratch_->size()}, mirrors_.list());
    return instance_->run(run, *row_);
}

Status GpuInstance::run() const {
    Status status = mirrors_.upload_all();
    if (status.ok()) {
        status = launch();
    }
    const cuda::Current current(context());
    if (status.ok()) {
        status = cuda::status_of(context().driver(), context().driver().stream_synchronize(nullptr), "cuStreamSynchronize");
    }
    for (size_t block = 0; status.ok() && block < outputs_; block++) {
        status = mirrors_.download(block);
    }
    return status;
}

}  // namespace moa::workloads
