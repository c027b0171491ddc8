#pragma once
// Wraps a grammar matcher into the engine's Constraint: its masks plus the model's stop tokens where the grammar may end.
#include <memory>
#include <vector>

#include "tokenworks/base/result.hpp"
#include "tokenworks/engine/engine.hpp"
#include "tokenworks/gateway/plant.hpp"
#include "tool_prompt.hpp"

namespace tokenworks::gateway {

// Whether a grammar holds the answers of this request.
bool constrained(const GenerateRequest& request);
// One per choice; empty for plain text. invalid_request for what cannot be compiled: the param is the path
// of the keyword within response_format, structured_outputs or tools.
Result<std::vector<std::shared_ptr<engine::Constraint>>> make_constraints(const GenerateRequest& request, const ServedModel& model,
                                                                          const AnswerBegin& begin, std::size_t choices);

}  // namespace tokenworks::gateway
