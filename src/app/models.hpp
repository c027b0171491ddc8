#pragma once
// Loading the configured models, from what preflight opened: digest, weights, engine. Start-up only.
#include <functional>
#include <memory>

#include "tokenworks/base/clock.hpp"
#include "tokenworks/config/config.hpp"
#include "tokenworks/engine/engine.hpp"
#include "preflight.hpp"
#include "tokenworks/gateway/plant.hpp"

namespace tokenworks::app {

// The error names the model, the file and the reason.
Result<std::shared_ptr<gateway::ServedModel>> load_model(const config::ModelSpec& spec, OpenedModel opened, const config::Plant::Limits& limits,
                                                         const std::string& cache_secret, const Clock& clock,
                                                         std::function<void(const engine::StepReport&)> on_step);

}  // namespace tokenworks::app
