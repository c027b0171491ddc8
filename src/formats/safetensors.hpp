#pragma once
// One safetensors file: 8 bytes of little-endian header length, a JSON header, the tensors without holes or overlap
// (huggingface/safetensors README). Never executes anything, never reads outside the file.
#include <map>
#include <span>
#include <string>

#include "tokenworks/base/result.hpp"
#include "tokenworks/formats/tensor.hpp"

namespace tokenworks::formats {

// `bytes`: the whole file; views point into it. Empty tensors are legal in the format and kept.
Result<std::map<std::string, TensorView>> read_safetensors(const std::string& file, std::span<const std::byte> bytes);

}  // namespace tokenworks::formats
