#pragma once
// Architecture: what tells one decoder-only family from another, as data. The transformer in transformer.cpp is written
// once; a row of the table in architecture.cpp says which optional parts a family has. A new family that is a variation
// of the same block (norm, attention, norm, gated feed-forward) is a new row; one that needs a new part gets a field
// here, its tensors in tensors.cpp and its op in transformer.cpp. Immutable; any thread.
#include <cstdint>
#include <string>
#include <string_view>

#include "tokenworks/backend/backend.hpp"
#include "tokenworks/base/result.hpp"
#include "tokenworks/formats/model_file.hpp"

namespace tokenworks::model {

// Whether the tensors of an optional part must, may or must not be in the file. "may": the file decides, as
// `attention_bias` does in Llama configurations.
enum class Presence : std::uint8_t { never, optional, always };

struct Architecture {
  const char* name;                                  // ModelConfig::architecture
  Presence qkv_bias;                                 // q_proj, k_proj, v_proj
  Presence output_bias;                              // o_proj
  Presence ffn_bias;                                 // gate_proj, up_proj, down_proj
  Presence head_norms;                               // per-head RMS norms of q and k before the rotation (Qwen3)
};

// bad_config names the file, the architecture it wants and those we have.
Result<const Architecture*> find_architecture(const formats::ModelFile& file);
std::string known_architectures();                   // "llama, mistral, qwen2, qwen3"

// The gate's activation; bad_config when we do not have it.
Result<backend::GateKind> gate_kind(const formats::ModelFile& file);

// The numbers of a configuration agree with each other: all positive, heads divide, rotated dimensions fit. bad_file.
Result<> check_numbers(const formats::ModelFile& file);

backend::AttentionSpec attention_spec(const formats::ModelConfig& config);

}  // namespace tokenworks::model
