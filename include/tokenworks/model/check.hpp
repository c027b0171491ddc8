#pragma once
// Whether a model could be loaded, without loading it: everything `load` refuses before it copies a byte. For `check`.
#include "tokenworks/model/runner.hpp"

namespace tokenworks::model {

// As the errors of load(), or of load_tensor_parallel() with several ranks; `param` is "kv_cache" where the budget is at fault,
// not the file, and "backend" where the number of ranks is.
Result<> can_load(const formats::ModelFile& file, backend::Backend& backend, const LoadOptions& options, std::int32_t ranks = 1);

}  // namespace tokenworks::model
