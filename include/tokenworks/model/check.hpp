#pragma once
// Whether a model could be loaded, without loading it: everything `load` refuses before it copies a byte. For `check`.
#include "tokenworks/model/runner.hpp"

namespace tokenworks::model {

// As the errors of load(); `param` is "kv_cache" where the budget is at fault, not the file.
Result<> can_load(const formats::ModelFile& file, const backend::Backend& backend, const LoadOptions& options);

}  // namespace tokenworks::model
