#pragma once
// inspect: what is inside a model file and what it needs in memory, for a person (`models inspect FILE`) or as JSON
// (`--json`). Pure functions of an open ModelFile; any thread.
#include <cstdint>
#include <string>

#include "tokenworks/base/crypto.hpp"
#include "tokenworks/formats/model_file.hpp"

namespace tokenworks::formats {

struct MemoryNeed {
  std::uint64_t weights = 0;                         // bytes of all tensors as stored
  std::uint64_t parameters = 0;                      // elements of all tensors
  std::uint64_t kv_per_token = 0;                    // bytes of bf16 keys and values, all layers
  std::uint64_t kv_full_context = 0;                 // kv_per_token x the trained context
};
MemoryNeed memory_need(const ModelFile& file);

// `digest` is shown when given (model_digest reads the whole file, so the caller decides); `all_tensors` lists each
// one.
std::string inspect_text(const ModelFile& file, const Digest* digest = nullptr, bool all_tensors = false);
std::string inspect_json(const ModelFile& file, const Digest* digest = nullptr, bool all_tensors = false);

// "98.4 MB": powers of 1000, three significant digits.
std::string format_bytes(std::uint64_t bytes);

}  // namespace tokenworks::formats
