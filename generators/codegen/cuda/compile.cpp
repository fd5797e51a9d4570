#include "generators/codegen/cuda/compile.h"

#include "generators/codegen/cuda/bundle.h"

#include <algorithm>
#include <cstring>
#include <fstream>
#include <set>
#include <stdexcept>

namespace moa::codegen::cuda {
namespace {

class TensorCorePasses : public Halide::Internal::IRMutator {
public:
    TensorCorePasses(std::vector<CopyLoop> &loops, bool few_registers)
        : loops_(loops), few_registers_(few_registers) {
    }
    Halide::Internal::Stmt mutate(const Halide::Internal::Stmt &s) override {
        return lower_tensor_core(s, loops_, few_registers_);
    }

private:
    using IRMutator::mutate;
    std::vector<CopyLoop> &loops_;
    bool few_registers_;
};

// The host code tells the runtime how long the device code is: the bundle takes more than the text that it was written for.
class CodeLength : public Halide::Internal::IRMutator {
public:
    explicit CodeLength(size_t bytes)
        : bytes_(bytes) {
    }

private:
    using IRMutator::visit;
    Halide::Expr visit(const Halide::Internal::Call *call) override {
        if (call->name != "halide_cuda_initialize_kernels") {
            return IRMutator::visit(call);
        }
        std::vector<Halide::Expr> arguments = call->args;
        arguments.back() = static_cast<int>(bytes_);
        return Halide::Internal::Call::make(call->type, call->name, arguments, call->call_type);
    }

    size_t bytes_;
};

// How much shared memory a module's host code asks for.
class SharedMemory : public Halide::Internal::IRVisitor {
public:
    int bytes = 0;

private:
    using IRVisitor::visit;
    void visit(const Halide::Internal::Let *let) override {
        const Halide::Internal::ScopedBinding<Halide::Expr> bound(values_, let->name, let->value);
        IRVisitor::visit(let);
    }
    void visit(const Halide::Internal::LetStmt *let) override {
        const Halide::Internal::ScopedBinding<Halide::Expr> bound(values_, let->name, let->value);
        IRVisitor::visit(let);
    }
    void visit(const Halide::Internal::Call *call) override {
        IRVisitor::visit(call);
        if (call->name != "halide_cuda_run" || bytes == CudaReport::kUnknown) {
            return;
        }
        constexpr size_t kBehind = 4;  // then come sizes, arguments, and which of them are buffers
        const Halide::Expr asked = Halide::Internal::simplify(value_of(call->args.at(call->args.size() - kBehind)));
        const auto known = Halide::Internal::as_const_int(asked);
        bytes = known ? std::max(bytes, static_cast<int>(*known)) : CudaReport::kUnknown;
    }
    Halide::Expr value_of(const Halide::Expr &e) const {
        const auto *variable = e.as<Halide::Internal::Variable>();
        return variable != nullptr && values_.contains(variable->name) ? value_of(values_.get(variable->name)) : e;
    }

    Halide::Internal::Scope<Halide::Expr> values_;
};

bool is_device_code(const Halide::Buffer<> &buffer) {
    return buffer.name().find("gpu_source_kernels") != std::string::npos;
}

// Halide's buffer holds the text and a 0.
std::string text_of(const Halide::Buffer<> &buffer) {
    const auto *text = static_cast<const char *>(buffer.data());
    return {text, strnlen(text, buffer.size_in_bytes())};
}

Halide::Buffer<uint8_t> buffer_of(const std::string &bytes, const std::string &name) {
    Halide::Buffer<uint8_t> buffer(static_cast<int>(bytes.size()), name);
    std::memcpy(buffer.data(), bytes.data(), bytes.size());
    return buffer;
}

// As ptxas names it: code with instructions that no other capability has is for "90a".
std::string architecture(int sm, const LinkedPtx &ptx) {
    return std::to_string(sm) + (ptx.capability != 0 ? "a" : "");
}

std::string bundle_of(const std::string &ptx, const CudaOptions &options, CudaReport &report) {
    std::vector<Image> images = {{0, ptx}};
    if (!options.ptxas.empty()) {
        std::set<int> architectures(options.cubins.begin(), options.cubins.end());
        architectures.insert(options.checks.begin(), options.checks.end());
        for (const int sm : architectures) {
            if (report.ptx.capability != 0 && sm != report.ptx.capability) {
                continue;
            }
            const std::string name = architecture(sm, report.ptx);
            const Assembled assembled = assemble(options.ptxas, ptx, name);
            report.figures[sm] = assembled.figures;
            if (std::find(options.cubins.begin(), options.cubins.end(), sm) != options.cubins.end()) {
                images.push_back({static_cast<uint32_t>(sm), compress(options.ptxas, assembled.cubin, name)});
            }
        }
    }
    return write_bundle(images);
}

void write(const std::string &path, const std::string &text) {
    std::ofstream file(path, std::ios::binary);
    file << text;
    if (!file.flush()) {
        throw std::runtime_error(path + ": cannot be written");
    }
}

}  // namespace

CudaReport compile_cuda(const Kernel &kernel, const std::string &function, const Halide::Target &target, const CudaOptions &options,
                        const std::map<Halide::OutputFileType, std::string> &files) {
    CudaReport report;
    Halide::Pipeline pipeline(kernel.outputs);
    pipeline.add_custom_lowering_pass(new TensorCorePasses(report.loops, kernel.registers != 0));  // the pipeline owns it
    const Halide::Module module = pipeline.compile_to_module(kernel.arguments, function, target);
    Halide::Module linked(module.name(), module.target());
    size_t code_bytes = 0;
    for (const Halide::Buffer<> &buffer : module.buffers()) {
        if (!is_device_code(buffer)) {
            linked.append(buffer);
            continue;
        }
        report.ptx = link_ptx(text_of(buffer), kernel.registers);
        if (!options.ptx_file.empty()) {
            write(options.ptx_file, report.ptx.text);
        }
        const std::string bundle = bundle_of(report.ptx.text, options, report);
        code_bytes = bundle.size();
        linked.append(buffer_of(bundle, buffer.name()));
    }
    SharedMemory shared;
    for (Halide::Internal::LoweredFunc lowered : module.functions()) {
        lowered.body.accept(&shared);
        lowered.body = CodeLength(code_bytes).mutate(lowered.body);
        linked.append(lowered);
    }
    report.shared_bytes = shared.bytes;
    linked.compile(files);
    return report;
}

}  // namespace moa::codegen::cuda
