#pragma once
// ModelFile: one model on disk, whatever its format: a GGUF file or a Hugging Face folder (config.json, safetensors single
// or sharded, tokenizer.json). Everything a file claims is checked before it is used; a message names file, tensor and
// reason. Immutable after open; any thread.
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tokenworks/base/byte_source.hpp"
#include "tokenworks/base/crypto.hpp"
#include "tokenworks/base/ids.hpp"
#include "tokenworks/formats/tensor.hpp"

namespace tokenworks::formats {

// The numbers an architecture needs, in one vocabulary for both formats.
struct ModelConfig {
  std::string architecture;                          // "llama", "mistral", "bert" (both Hugging Face only), "qwen2", "qwen3"
  std::string name;                                  // for people; may be empty
  std::int32_t layers = 0, hidden = 0, ffn = 0, q_heads = 0, kv_heads = 0, head_dim = 0, vocab = 0;
  std::int32_t context = 0;                          // trained context, tokens
  float norm_epsilon = 1e-5f;
  float rope_base = 10000.0f;
  std::int32_t rope_dims = 0;                        // rotated dimensions; head_dim unless partial
  bool rope_interleaved = false;                     // true for GGUF "llama" files (rows permuted at conversion)
  std::string rope_scaling = "none";                 // none, linear, llama3, yarn
  float rope_factor = 1, rope_low_freq = 1, rope_high_freq = 4, rope_attention_factor = 0;
  float rope_beta_fast = 32, rope_beta_slow = 1;
  std::int32_t rope_original_context = 0;
  std::vector<float> rope_factors;                   // GGUF rope_freqs.weight: inverse frequencies are divided by these
  std::int32_t sliding_window = 0;                   // 0: none
  bool tied_embeddings = false;
  std::string activation = "silu";
  std::int32_t token_types = 0;                      // segments of an encoder ("bert"); 0: a decoder
  std::string pooling;                               // "mean", "first", "last" as the folder's 1_Pooling says; "": it says nothing
};

// Where the tokenizer's data comes from.
struct TokenizerData {
  enum class Kind { byte_bpe, sentencepiece_bpe, tokenizer_json } kind = Kind::byte_bpe;
  std::string pre;                                   // GGUF tokenizer.ggml.pre: "smollm", "gpt-2", "llama-bpe", "qwen2", "default"
  std::vector<std::string> tokens;                   // GGUF spelling (byte-level alphabet or U+2581), index = id
  std::vector<float> scores;                         // sentencepiece
  std::vector<std::int32_t> types;                   // GGUF token_type: 1 normal 2 unknown 3 control 4 user-defined 5 unused 6 byte
  std::vector<std::string> merges;                   // "left right"
  std::optional<TokenId> bos, eos, unknown, pad;
  std::vector<TokenId> stop;                         // every id that ends generation (eos, eot, generation_config's list)
  std::optional<bool> add_bos, add_eos, add_space_prefix;
  std::string json;                                  // tokenizer.json whole, when kind is tokenizer_json
  std::string chat_template;                         // "" when the model has none
  std::map<std::string, std::string> special_strings;   // bos_token, eos_token, ... as the template sees them
};

class ModelFile {
 public:
  virtual ~ModelFile() = default;
  // A *.gguf file or a folder with config.json. Errors: io, bad_file.
  static Result<std::shared_ptr<const ModelFile>> open(const std::string& path);

  virtual const std::string& path() const = 0;
  virtual const std::string& format() const = 0;     // "gguf" or "safetensors"
  virtual const ModelConfig& config() const = 0;
  virtual const TokenizerData& tokenizer() const = 0;
  // All tensors under their Hugging Face names ("model.layers.0.self_attn.q_proj.weight", "model.embed_tokens.weight",
  // "lm_head.weight", "model.norm.weight", ...), also for GGUF, so an architecture asks for one name.
  virtual const std::map<std::string, TensorView>& tensors() const = 0;
  const TensorView* find(std::string_view name) const;
  // Every file, in a fixed order, for the digest.
  virtual const std::vector<std::shared_ptr<const ByteSource>>& sources() const = 0;
};

// The Merkle root (RFC 6962 hashing: 0x00 leaf, 0x01 node) over 8 MiB chunks of all sources in order, computed on
// `threads` threads (<= 0: one per core). docs/model_digest.md says how to recompute it.
Digest model_digest(const ModelFile& file, int threads = 0);

}  // namespace tokenworks::formats
