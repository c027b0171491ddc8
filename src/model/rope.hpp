#pragma once
// Rotary position embedding: the inverse frequencies a backend builds its sine and cosine table from, with the scaling
// a model was trained with already applied (none, linear, llama3, yarn, and the per-dimension factors of GGUF files).
// Computed in double from the definitions, rounded to fp32 once. Pure.
#include "tokenworks/backend/backend.hpp"
#include "tokenworks/base/result.hpp"
#include "tokenworks/formats/model_file.hpp"

namespace tokenworks::model {

// bad_file when the scaling's numbers make no sense; bad_config when its kind is unknown. `path` is for the message.
Result<backend::RopeSpec> rope_spec(const formats::ModelConfig& config, const std::string& path);

}  // namespace tokenworks::model
