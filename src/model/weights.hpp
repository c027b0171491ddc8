#pragma once
// The weights of a model in the backend's own layout. Made once at load, immutable, used by the engine thread; the
// backend outlives them. Nothing points into the ModelFile afterwards.
#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "model/tensors.hpp"

namespace tokenworks::model {

using WeightPtr = std::unique_ptr<backend::Weight>;

struct LayerWeights {
  WeightPtr attention_norm, qkv, q_norm, k_norm, output, ffn_norm, gate_up, down;   // q_norm, k_norm may be null
};

struct Weights {
  WeightPtr embedding, rope, final_norm, head;
  std::vector<LayerWeights> layers;
  std::size_t bytes = 0;                             // on the device, as the backend says
};

// Errors are the backend's, with the file and the part of the model in front.
Result<Weights> build_weights(const formats::ModelFile& file, const ModelTensors& tensors,
                              const backend::RopeSpec& rope, std::int32_t positions_max, backend::Backend& backend);

// "fp_" and 12 hex digits over everything that decides how a result is rounded: the architecture's numbers, the type
// of every tensor, our layout version and the backend's numerics. Two machines with one fingerprint and one file give
// the same answers; the file's content itself is the model digest's matter.
std::string fingerprint_of(const formats::ModelFile& file, const ModelTensors& tensors, const backend::RopeSpec& rope,
                           const backend::BackendInfo& backend);

}  // namespace tokenworks::model
