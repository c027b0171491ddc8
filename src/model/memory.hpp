#pragma once
// How much a model takes and how many KV blocks its budget buys: the arithmetic behind `load`, `plan_memory` and their
// refusals. Pure.
#include <cstddef>
#include <cstdint>

#include "model/architecture.hpp"
#include "tokenworks/model/runner.hpp"

namespace tokenworks::model {

// The buffers of one step, in elements; the transformer allocates exactly these.
struct Workspace {
  std::size_t hidden, qkv, gate_up, sampled, logits;   // fp32
  std::int32_t activation_columns;                     // of the widest input of a linear

  std::size_t bytes(const LoadOptions& options) const;
};
Workspace workspace_of(const formats::ModelConfig& config, const LoadOptions& options);

backend::KvShape kv_shape(const formats::ModelConfig& config);

// The options with the context lowered to the model's own and room in a step for every running
// sequence; bad_config when an option is not positive.
Result<LoadOptions> settle_options(const formats::ModelFile& file, LoadOptions options);

// Blocks of `block_bytes` (the backend's word for one) that fit kv_cache_bytes. bad_config when they do not hold one
// sequence of context_tokens: says how much would, and which context would fit.
Result<std::int32_t> kv_blocks(const formats::ModelFile& file, const LoadOptions& options, std::size_t block_bytes);

}  // namespace tokenworks::model
