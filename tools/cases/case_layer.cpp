#include "tools/cases/case_layer.h"

#include "runtime/text.h"

#include <array>
#include <string_view>
#include <utility>

namespace moa::tools {

Result<CaseLayer> layer_of(const RecordedCase &recorded) {
    using Make = Result<CaseLayer> (*)(const RecordedCase &);
    static constexpr std::array<std::pair<std::string_view, Make>, 6> kModules{{{"CoordinateDescentRouter", router_case},
                                                                                {"Attention", attention_case},
                                                                                {"MixtureOfAttention", mixture_case},
                                                                                {"LocalMHA", local_mha_case},
                                                                                {"LocalAttention", local_attention_case},
                                                                                {"Linear", linear_case}}};
    for (const auto &[name, make] : kModules) {
        if (name == recorded.module) {
            return make(recorded);
        }
    }
    return Status(Code::unsupported, text("there is no layer {}", recorded.module));
}

}  // namespace moa::tools
