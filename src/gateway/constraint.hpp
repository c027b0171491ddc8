#pragma once
// Wraps a grammar matcher into the engine's Constraint: its masks plus the model's stop tokens where the grammar may end.
#include <memory>
#include <vector>

#include "tokenworks/base/result.hpp"
#include "tokenworks/engine/engine.hpp"
#include "tokenworks/gateway/plant.hpp"

namespace tokenworks::gateway {

// One per choice; empty for plain text. invalid_request (param "response_format") for a schema that cannot be compiled.
Result<std::vector<std::shared_ptr<engine::Constraint>>> make_constraints(const OutputFormat& format, const ServedModel& model,
                                                                          std::size_t choices);

}  // namespace tokenworks::gateway
