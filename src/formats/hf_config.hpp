#pragma once
// config.json of a Hugging Face folder as ModelConfig, in the spellings of transformers 4 (rope_theta, rope_scaling)
// and 5 (rope_parameters). What cannot be served is an error that says so, never a silent approximation.
#include <string>

#include "formats/json.hpp"
#include "tokenworks/formats/model_file.hpp"

namespace tokenworks::formats {

// `file`: its path, for messages. `tied_embeddings` is what the file says; vocab and sizes are not yet checked.
Result<ModelConfig> read_hf_config(const std::string& file, const Json& config);

}  // namespace tokenworks::formats
