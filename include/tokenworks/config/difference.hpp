#pragma once
// What a reload cannot change: keys of tokenworks.yaml that a running daemon took at its start.
#include <string>
#include <vector>

#include "tokenworks/config/config.hpp"

namespace tokenworks::config {

// The paths of the keys that differ, as messages write them; models by id ("models.smollm2.kv_cache"). Empty: a reload has
// taken everything over.
std::vector<std::string> restart_needed(const Plant& running, const Plant& fresh);

}  // namespace tokenworks::config
