#pragma once

#include "moa/coordinate_descent_router.h"
#include "runtime/text.h"
#include "tools/cases/case_layer.h"

#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

// Pieces that the cases of several modules share.
namespace moa::tools {

// Reads a case's inputs. The first that is missing or has another shape than the layer wants sticks; one that nobody asked
// for means that the case is of a call that this library does not have.
class CaseInputs {
public:
    CaseInputs(const RecordedCase &recorded, CaseLayer &layer)
        : recorded_(recorded), layer_(layer) {
    }

    // -1: any size. The sizes come back; all -1 if anything is wrong.
    std::vector<int64_t> sizes(const std::string &name, const std::vector<std::vector<int64_t>> &shapes);
    bool has(const std::string &name) const {
        return recorded_.has("in." + name);
    }
    // Hands the tensor to the plan, as an argument of that name and shape.
    void pass(const std::string &name, const std::string &argument, DType dtype, std::vector<int64_t> shape);
    // The same if there is one. Says whether there is.
    bool pass_if_any(const std::string &name, const std::string &argument, DType dtype, std::vector<int64_t> shape);
    Status finish() const;

private:
    const RecordedCase &recorded_;
    CaseLayer &layer_;
    std::set<std::string, std::less<>> taken_;
    Status status_;
};

// Options of routers, of whichever module.
void read_router_options(Keywords &keywords, RouterOptions &options);

// `fixed` if the case's repairs are those that semantics `fixed` makes for it, `reference` if there are none.
Result<Semantics> semantics_of(const RecordedCase &recorded, std::initializer_list<const char *> needed);

// A side that is routed, with the names that it has in the plan.
struct RoutedSide {
    std::string router;                                // "query_router"
    std::string indices, similarities, imposed, mask;  // mask: empty without one
    int64_t batch = 1, routers = 1, length = 0, k = 0;
    bool by_rank = false;
};
// Adds the recorded routes as inputs, and the comparison of similarities and selection.
Status add_route(const RecordedCase &recorded, const RouterOptions &options, const RoutedSide &side, CaseLayer &layer);

// Where the elements of a recorded [b * blocks * r, width] lie in [b, r, n].
std::vector<size_t> block_order(const RoutedSide &side, int64_t blocks, int64_t width);

// Deviation of a product's outputs: of inputs with root mean square `input`, weights and, if there is one, gain.
double projected(const RecordedCase &recorded, double input, const std::string &weight, const std::string &gain);
// Of grouped attention with weights of that prefix, up to its output.
Roundings attention_roundings(const RecordedCase &recorded, const std::string &prefix, bool prenorm);
// Root mean square of a tensor of the case; 1 without it.
double rms_of(const RecordedCase &recorded, const std::string &tensor);

// The output of that argument, and the recording `out.<name>` of it if there is one.
void add_output(const RecordedCase &recorded, CaseLayer &layer, const std::string &name, const std::string &argument, std::vector<int64_t> shape);

}  // namespace moa::tools
