#pragma once
// The tensors of a model, found and checked before anything is loaded: every weight an architecture needs is there,
// with the shape its numbers imply, and the file holds no weight that would be silently ignored. Where the loader and
// the memory plan both start. Views point into the ModelFile, which must outlive them. Pure.
#include <cstddef>
#include <vector>

#include "model/architecture.hpp"
#include "tokenworks/backend/backend.hpp"
#include "tokenworks/base/result.hpp"
#include "tokenworks/formats/model_file.hpp"

namespace tokenworks::model {

using LinearParts = backend::Backend::LinearParts;
using formats::TensorView;

struct LayerTensors {
  const TensorView* attention_norm = nullptr;        // [hidden]
  LinearParts qkv;                                   // [(q_heads + 2 kv_heads) * head_dim, hidden]
  const TensorView* q_norm = nullptr;                // [head_dim]; null: the family has none
  const TensorView* k_norm = nullptr;
  LinearParts output;                                // [hidden, q_heads * head_dim]
  const TensorView* ffn_norm = nullptr;              // [hidden]
  LinearParts gate_up;                               // [2 * ffn, hidden], rows of gate and up alternate
  LinearParts down;                                  // [hidden, ffn]
};

struct ModelTensors {
  const TensorView* embedding = nullptr;             // [vocab, hidden]
  std::vector<LayerTensors> layers;
  const TensorView* final_norm = nullptr;            // [hidden]
  const TensorView* head = nullptr;                  // [vocab, hidden]; the embedding itself when tied
  std::size_t file_bytes = 0;                        // of all tensors used, as the file stores them

  // (name, tensor) of everything used, in a fixed order: what the fingerprint hashes.
  std::vector<const TensorView*> used;
};

// bad_file names the file, the tensor, what was found and what was expected.
Result<ModelTensors> find_tensors(const formats::ModelFile& file, const Architecture& architecture);

}  // namespace tokenworks::model
