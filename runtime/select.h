#pragma once

#include "moa/rows.h"

#include <functional>

namespace moa {

// `select`, and a rehearsal of the row before it is taken: of those that accept the problem, the first whose rehearsal
// succeeds; what the others said is in Choice::passed_over. A forced row is taken or refused. Failures that have nothing to do
// with the row (Code::out_of_memory, Code::invalid_argument) end the search.
using Rehearsal = std::function<Status(const Row &)>;
Result<Choice> select_rehearsed(const Problem &problem, const DeviceDescription &device, std::span<const Row> rows, std::span<const std::string> forced,
                                const Rehearsal &rehearse);

// Why the row cannot take the problem on the device; empty if it can.
std::string refusal(const Row &row, const Problem &problem, const DeviceDescription &device);

}  // namespace moa
