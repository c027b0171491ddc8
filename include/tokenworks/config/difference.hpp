#pragma once
// What a reload cannot change: keys of tokenworks.yaml that a running daemon took at its start.
#include <string>
#include <vector>

#include "tokenworks/config/config.hpp"

namespace tokenworks::config {

// The paths of the keys that differ, as messages write them ("limits.body"). Empty: a reload has taken everything over.
// Models are not among them: a reload loads, replaces and unloads them (gateway/model_desk.hpp).
std::vector<std::string> restart_needed(const Plant& running, const Plant& fresh);

}  // namespace tokenworks::config
