#include "tools/models/recorded_logits.h"

#include "runtime/elements.h"
#include "runtime/text.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>

namespace moa::tools {

bool RecordedComparison::pass(DType dtype, Precision precision) const {
    if (const double roundoff = inner_roundoff(dtype, precision); roundoff > 0) {
        return finite && std::abs(restored - restored_by_recorded) <= kRestoredTolerance && mean_difference <= kMeanRoundings * roundoff;
    }
    return finite && mean_difference <= kMeanTolerance && max_difference <= kMaxTolerance;
}

Result<RecordedComparison> compare_with_recorded(MaskedLm &model, const std::string &path) {
    Result<SafeTensors> file = SafeTensors::open(path);
    if (!file.ok()) {
        return file.status();
    }
    const TensorMap tensors = file->tensors();
    const auto tokens = tensors.find("tokens"), masked = tensors.find("masked"), logits = tensors.find("logits");
    if (tokens == tensors.end() || masked == tensors.end() || logits == tensors.end() || tokens->second.dtype != DType::i32 ||
        masked->second.dtype != DType::boolean || logits->second.dtype != DType::f32 || tokens->second.rank != 2 ||
        masked->second.elements() != tokens->second.elements() ||
        logits->second.elements() != tokens->second.elements() * model.vocabulary()) {
        return invalid("{} does not hold tokens i32 [b, n], masked [b, n] and logits f32 [b, n, {}]", path, model.vocabulary());
    }
    const auto count = static_cast<size_t>(tokens->second.elements());
    const auto *truth = static_cast<const int32_t *>(tokens->second.data);
    const auto *lost = static_cast<const uint8_t *>(masked->second.data);
    std::vector<int32_t> fed(truth, truth + count);
    for (size_t i = 0; i < count; i++) {
        fed[i] = lost[i] != 0 ? model.mask_token() : fed[i];
    }
    const Result<std::vector<float>> got = model.logits(fed, tokens->second.shape[0]);
    if (!got.ok()) {
        return got.status();
    }
    RecordedComparison result;
    const auto *want = static_cast<const float *>(logits->second.data);
    double sum = 0;
    for (size_t i = 0; i < got->size(); i++) {
        const double difference = std::abs(static_cast<double>((*got)[i]) - static_cast<double>(want[i]));
        result.finite = result.finite && std::isfinite(difference);
        result.max_difference = std::max(result.max_difference, difference);
        sum += difference;
    }
    result.mean_difference = sum / static_cast<double>(std::max<size_t>(got->size(), 1));
    const auto best = [&](const float *row) { return static_cast<int32_t>(std::max_element(row, row + MaskedLm::kBytes) - row); };
    for (size_t i = 0; i < count; i++) {
        if (lost[i] != 0) {
            result.masked++;
            result.restored += best(got->data() + i * model.vocabulary()) == truth[i] ? 1 : 0;
            result.restored_by_recorded += best(want + i * model.vocabulary()) == truth[i] ? 1 : 0;
        }
    }
    return result;
}

}  // namespace moa::tools
