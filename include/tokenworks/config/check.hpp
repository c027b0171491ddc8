#pragma once
// What `check` and `serve` need beside the three files: a place for mistakes that only opening what the files name can show
// (certificates, models, devices), in one list with the parser's own, and where to point for them.
#include <functional>
#include <string>
#include <vector>

#include "tokenworks/config/config.hpp"

namespace tokenworks::config {

// Called with whatever could be read, also when there are mistakes already; adds its own, a line each.
using Further = std::function<void(const Config&, std::vector<std::string>& mistakes)>;
// As load(path), with further checks.
Result<Config> load(const std::string& path, const Further& further);

// Where a key of tokenworks.yaml gets its value: "FILE:LINE", or "environment variable TOKENWORKS_..." when that overrides
// it. `path` as messages write it: "tls.certificate", "models[0].kv_cache". A key that is not there: the line of what would
// hold it. Reads the file again: for messages only.
std::string place_of(const std::string& file, const std::string& path);

}  // namespace tokenworks::config
