#pragma once
// One model beside the files: how an operator describes it in an order to a running daemon, with the keys of `models` in
// tokenworks.yaml, and what of it a running engine can take over. Pure; any thread.
#include <string>
#include <string_view>

#include "tokenworks/config/config.hpp"

namespace tokenworks::config {

// `text` is one mapping (JSON is): its keys replace those of `base`, relative paths start at the folder of `file`.
// invalid_request names every mistake; its `param` is the first key at fault.
Result<ModelSpec> model_from_text(std::string_view text, const ModelSpec& base, const std::string& file);

// Whether an engine that runs `a` would have to be made anew for `b`: anything but names, data classes and `load` differs.
bool needs_new_engine(const ModelSpec& a, const ModelSpec& b);
// All that a file says of it; not where it says it.
bool same_model(const ModelSpec& a, const ModelSpec& b);

}  // namespace tokenworks::config
