#pragma once
// What both readers fill in, and the checks they share: after `check` an architecture may trust every size in the
// config and every tensor it asks for.
#include <limits>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tokenworks/formats/model_file.hpp"

namespace tokenworks::formats {

struct ModelData {
  std::string path, format;
  ModelConfig config;
  TokenizerData tokenizer;
  std::map<std::string, TensorView> tensors;
  std::vector<std::shared_ptr<const ByteSource>> sources;
  std::vector<std::string> copies;                   // bytes of sources that are not mapped; tensors point into them
};

// The whole source as one span: its mapping, or a copy kept in `copies` (reserved by the caller: spans must not move).
Result<std::span<const std::byte>> resident(const ByteSource& source, std::vector<std::string>& copies);

// Sizes in range and consistent, every tensor the architecture needs present in the right shape. The message names
// `file`, the tensor and what is wrong.
Result<> check(const std::string& file, const ModelData& model);

// One GGUF source, one Hugging Face folder.
Result<ModelData> read_gguf(std::shared_ptr<const ByteSource> source);
Result<ModelData> read_hugging_face(const std::string& folder);

// A tensor's Hugging Face name as a GGUF file writes it, for messages: people look for what is in their file.
std::string gguf_name(const std::string& name);

std::shared_ptr<const ModelFile> make_model_file(ModelData data);

}  // namespace tokenworks::formats
