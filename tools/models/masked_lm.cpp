#include "tools/models/masked_lm.h"

#include "runtime/cuda/mirrors.h"
#include "runtime/elements.h"
#include "runtime/text.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

namespace moa::tools {

namespace {

using Json = nlohmann::json;

Result<int64_t> integer(const Json &config, const char *name) {
    const auto found = config.find(name);
    if (found == config.end() || !found->is_number_integer() || found->get<int64_t>() < 1 || found->get<int64_t>() > (1 << 20)) {
        return invalid("the model's config has no integer {} between 1 and 2^20", name);
    }
    return found->get<int64_t>();
}

// Rows of f32 in the plan's dtype, and back.
class Stored {
public:
    Stored(DType dtype, size_t elements)
        : dtype_(dtype), bytes_(elements * size_bytes(dtype)) {
    }
    void load(std::span<const float> values) {
        for (size_t i = 0; i < values.size(); i++) {
            store_element(dtype_, bytes_.data() + i * size_bytes(dtype_), values[i]);
        }
    }
    float operator[](size_t i) const {
        return static_cast<float>(load_element(dtype_, bytes_.data() + i * size_bytes(dtype_)));
    }
    TensorView view(std::initializer_list<int64_t> shape) {
        return {bytes_.data(), dtype_, shape};
    }

private:
    DType dtype_;
    std::vector<std::byte> bytes_;
};

Result<std::vector<float>> floats(const TensorMap &tensors, const std::string &name, std::initializer_list<int64_t> shape) {
    const auto found = tensors.find(name);
    const std::vector<int64_t> wanted(shape);
    if (found == tensors.end()) {
        const auto why = tensors.unreadable.find(name);
        return why == tensors.unreadable.end() ? Status(Code::not_found, text("the model has no tensor {} {}", name, text_of(wanted)))
                                               : Status(Code::unsupported, text("the model's tensor {}, wanted f32, bf16 or f16 {}, is {}", name, text_of(wanted), why->second));
    }
    const TensorView &t = found->second;
    if (!is_storage(t.dtype) || std::vector<int64_t>(t.shape.begin(), t.shape.begin() + t.rank) != wanted) {
        return invalid("the model's tensor {} is {}, wanted f32, bf16 or f16 {}", name, t.describe(), text_of(wanted));
    }
    std::vector<float> values(static_cast<size_t>(t.elements()));
    for (size_t i = 0; i < values.size(); i++) {
        values[i] = static_cast<float>(load_element(t.dtype, static_cast<const std::byte *>(t.data) + i * size_bytes(t.dtype)));
    }
    return values;
}

}  // namespace

Result<MaskedLm> MaskedLm::load(const std::string &path, const PlanOptions &options) {
    Result<SafeTensors> file = SafeTensors::open(path);
    if (!file.ok()) {
        return file.status();
    }
    MaskedLm model;
    model.options_ = options;
    if (Status status = model.read(*file); !status) {
        return Status(status.code(), path + ": " + status.message());
    }
    return model;
}

Status MaskedLm::read(const SafeTensors &file) {
    const auto metadata = file.metadata().find("config");
    if (metadata == file.metadata().end()) {
        return invalid("no config in the metadata");
    }
    const Json config = Json::parse(metadata->second, nullptr, false);
    if (!config.is_object() || config.value("model", "") != "masked_byte_lm" || config.value("semantics", "") != "fixed") {
        return invalid("the config is not that of a masked_byte_lm with fixed semantics");
    }
    int64_t heads = 0, window = 0, ff_mult = 0, mask_token = 0;
    const std::pair<const char *, int64_t *> fields[] = {
        {"dim", &dim_}, {"num_tokens", &num_tokens_}, {"depth", &depth_}, {"seq_len", &seq_len_}, {"num_experts", &num_experts_}, {"num_routed_queries", &routed_queries_}, {"num_routed_key_values", &routed_key_values_}, {"local_attn_window_size", &window}, {"heads", &heads}, {"dim_head", &dim_head_}, {"ff_mult", &ff_mult}, {"mask_token", &mask_token}};
    for (const auto &[name, value] : fields) {
        Result<int64_t> read = integer(config, name);
        if (!read.ok()) {
            return read.status();
        }
        *value = *read;
    }
    if (num_tokens_ < kBytes || mask_token >= num_tokens_ || depth_ > 256) {
        return invalid("num_tokens {}, mask_token {}, depth {} make no byte model", num_tokens_, mask_token, depth_);
    }
    mask_token_ = static_cast<int32_t>(mask_token);
    const TensorMap &all = file.tensors();
    const auto take = [&](const std::string &name, std::initializer_list<int64_t> shape, std::vector<float> &out) {
        Result<std::vector<float>> values = floats(all, name, shape);
        out = values.ok() ? *values : std::vector<float>();
        return values.status();
    };
    for (Status status : {take("token_emb.weight", {num_tokens_, dim_}, token_embedding_), take("pos_emb.weight", {seq_len_, dim_}, position_embedding_),
                          take("rotary_emb.inv_freq", {dim_head_ / 2}, inv_freq_)}) {
        if (!status) {
            return status;
        }
    }
    MixtureOfAttention::Config attention;
    attention.dim = dim_;
    attention.num_experts = num_experts_;
    attention.num_routed_queries = routed_queries_;
    attention.num_routed_key_values = routed_key_values_;
    attention.heads = heads;
    attention.dim_head = dim_head_;
    attention.local_attn = true;
    attention.local_attn_window_size = window;
    attention.cosine_sim_routing = config.value("cosine_sim_routing", false);
    for (int64_t layer = 0; layer < depth_; layer++) {
        const std::string prefix = "layers." + std::to_string(layer) + ".";
        Result<MixtureOfAttention> mixture = MixtureOfAttention::create(attention, file.tensors(prefix + "0."));
        Result<FeedForward> feed_forward = FeedForward::create({dim_, dim_ * ff_mult}, file.tensors(prefix + "1."));
        if (!mixture.ok() || !feed_forward.ok()) {
            const Status &status = mixture.ok() ? feed_forward.status() : mixture.status();
            return {status.code(), prefix + ": " + status.message()};
        }
        attention_.push_back(*std::move(mixture));
        feed_forward_.push_back(*std::move(feed_forward));
    }
    TensorMap head = file.tensors("to_logits.1.");
    if (const auto gamma = all.find("to_logits.0.gamma"); gamma != all.end()) {
        head.emplace("gamma", gamma->second);
    }
    Result<Linear> to_logits = Linear::create({dim_, num_tokens_, true, true}, head);
    if (!to_logits.ok()) {
        return {to_logits.status().code(), "to_logits: " + to_logits.status().message()};
    }
    to_logits_.push_back(*std::move(to_logits));
    return {};
}

Result<MaskedLm::Plans *> MaskedLm::plans_for(int64_t batch, int64_t length) {
    const auto key = std::make_pair(batch, length);
    if (const auto found = plans_.find(key); found != plans_.end()) {
        return &found->second;
    }
    Plans plans;
    MixtureOfAttention::Shapes shapes;
    shapes.batch = batch;
    shapes.length = length;
    shapes.rotary = true;
    for (int64_t layer = 0; layer < depth_; layer++) {
        Result<Plan> attention = attention_[layer].plan(shapes, options_), feed_forward = feed_forward_[layer].plan(batch, length, options_);
        if (!attention.ok() || !feed_forward.ok()) {
            return attention.ok() ? feed_forward.status() : attention.status();
        }
        plans.attention.push_back(*std::move(attention));
        plans.feed_forward.push_back(*std::move(feed_forward));
    }
    Result<Plan> to_logits = to_logits_[0].plan(batch, length, options_);
    if (!to_logits.ok()) {
        return to_logits.status();
    }
    plans.to_logits.push_back(*std::move(to_logits));
    const size_t half = inv_freq_.size();
    for (int64_t n = 0; n < length; n++) {
        for (size_t d = 0; d < 2 * half; d++) {
            plans.angles.push_back(static_cast<float>(n) * inv_freq_[d % half]);
        }
    }
    return &plans_.emplace(key, std::move(plans)).first->second;
}

namespace {

std::vector<std::vector<int64_t>> by_expert(const std::vector<int64_t> &indices, int64_t experts) {
    std::vector<std::vector<int64_t>> result;
    const int64_t k = static_cast<int64_t>(indices.size()) / std::max<int64_t>(experts, 1);
    for (int64_t e = 0; e < experts; e++) {
        result.emplace_back(indices.begin() + e * k, indices.begin() + (e + 1) * k);
    }
    return result;
}

}  // namespace

Result<std::vector<float>> MaskedLm::logits(std::span<const int32_t> tokens, int64_t batch, std::vector<LayerRoutes> *routes) {
    const int64_t length = batch > 0 ? static_cast<int64_t>(tokens.size()) / batch : 0;
    if (batch < 1 || length < 1 || length > seq_len_ || static_cast<size_t>(batch * length) != tokens.size()) {
        return invalid("{} tokens are not {} rows of 1 to {}", tokens.size(), batch, seq_len_);
    }
    if (const auto bad = std::find_if(tokens.begin(), tokens.end(), [&](int32_t t) { return t < 0 || t >= num_tokens_; }); bad != tokens.end()) {
        return invalid("token {} at {} is not in the vocabulary of {}", *bad, bad - tokens.begin(), num_tokens_);
    }
    Result<Plans *> made = plans_for(batch, length);
    if (!made.ok()) {
        return made.status();
    }
    const Plans &plans = **made;
    const auto elements = static_cast<size_t>(batch * length * dim_);
    std::vector<float> x(elements);
    for (size_t row = 0; row < tokens.size(); row++) {
        for (int64_t c = 0; c < dim_; c++) {
            x[row * dim_ + c] = token_embedding_[tokens[row] * dim_ + c] + position_embedding_[static_cast<int64_t>(row) % length * dim_ + c];
        }
    }
    // The residual stream stays in f32: only the layers' inputs and outputs are stored in the plan's dtype.
    Stored in(options_.dtype, elements), out(options_.dtype, elements);
    const TensorView rows = in.view({batch, length, dim_}), result = out.view({batch, length, dim_});
    const TensorView angles(plans.angles.data(), DType::f32, {length, dim_head_});
    const auto add = [&] {
        for (size_t i = 0; i < elements; i++) {
            x[i] += out[i];
        }
    };
    for (int64_t layer = 0; layer < depth_; layer++) {
        in.load(x);
        std::vector<int64_t> queries(static_cast<size_t>(batch * num_experts_ * routed_queries_)), keys(static_cast<size_t>(batch * num_experts_ * routed_key_values_));
        std::vector<NamedTensor> arguments{{"x", rows}, {"rotary_emb", angles}, {"out", result}};
        const bool show = routes != nullptr && routed(length);
        if (show) {
            arguments.push_back({"query_indices", TensorView(queries.data(), DType::i64, {batch, num_experts_, routed_queries_})});
            arguments.push_back({"key_value_indices", TensorView(keys.data(), DType::i64, {batch, num_experts_, routed_key_values_})});
        }
        Status status = cuda::run_with_host_tensors(plans.attention[layer], arguments);
        if (status) {
            add();
            in.load(x);
            status = cuda::run_with_host_tensors(plans.feed_forward[layer], std::vector<NamedTensor>{{"x", rows}, {"out", result}});
        }
        if (!status) {
            return status;
        }
        add();
        if (show) {
            queries.resize(static_cast<size_t>(num_experts_ * routed_queries_));
            keys.resize(static_cast<size_t>(num_experts_ * routed_key_values_));
            routes->push_back({num_experts_, by_expert(queries, num_experts_), by_expert(keys, num_experts_)});
        }
    }
    in.load(x);
    Stored scores(options_.dtype, tokens.size() * static_cast<size_t>(num_tokens_));
    if (Status status = cuda::run_with_host_tensors(plans.to_logits[0], std::vector<NamedTensor>{{"x", rows}, {"out", scores.view({batch, length, num_tokens_})}}); !status) {
        return status;
    }
    std::vector<float> logits(tokens.size() * static_cast<size_t>(num_tokens_));
    for (size_t i = 0; i < logits.size(); i++) {
        logits[i] = scores[i];
    }
    return logits;
}

Result<std::string> MaskedLm::fill(std::string_view given, char mark, const Progress &progress) {
    std::string restored(given);
    const auto window = static_cast<size_t>(seq_len_);
    for (size_t begin = 0; begin < given.size(); begin += window) {
        const size_t start = begin + window <= given.size() || given.size() < window ? begin : given.size() - window;
        const size_t length = std::min(window, given.size() - start);
        std::vector<int32_t> tokens(window);
        for (size_t i = 0; i < window; i++) {
            const char c = given[start + i % length];
            tokens[i] = c == mark ? mask_token_ : static_cast<unsigned char>(c);
        }
        const Result<std::vector<float>> scores = logits(tokens, 1);
        if (!scores.ok()) {
            return scores.status();
        }
        for (size_t i = begin - start; i < length; i++) {
            if (given[start + i] == mark) {
                const auto first = scores->begin() + static_cast<std::ptrdiff_t>(i) * num_tokens_;  // the mask's own logit, the last, is left out
                restored[start + i] = static_cast<char>(std::max_element(first, first + kBytes) - first);
            }
        }
        if (progress) {
            progress(start + length, given.size());
        }
    }
    return restored;
}

Result<std::vector<Plan::Step>> MaskedLm::steps(int64_t batch, int64_t length) {
    Result<Plans *> made = plans_for(batch, length);
    if (!made.ok()) {
        return made.status();
    }
    std::vector<Plan::Step> steps;
    for (const Plan *plan : {(*made)->attention.data(), (*made)->feed_forward.data(), (*made)->to_logits.data()}) {
        steps.insert(steps.end(), plan->steps().begin(), plan->steps().end());
    }
    return steps;
}

}  // namespace moa::tools
