#include "model/architecture.hpp"

#include <fmt/format.h>

#include <array>
#include <cmath>

namespace tokenworks::model {
namespace {

using enum Presence;

// Sources: the modelling files of Hugging Face transformers (llama, mistral, qwen2, qwen3). GGUF files of Mistral
// models call themselves "llama", which is the same block.
constexpr std::array kArchitectures{
    //            name       qkv_bias  output_bias ffn_bias  head_norms
    Architecture{"llama",    optional, optional,   optional, never},
    Architecture{"mistral",  never,    never,      never,    never},
    Architecture{"qwen2",    always,   never,      never,    never},
    Architecture{"qwen3",    optional, optional,   never,    always},
};

// Larger than any model of these families; keeps every product of two numbers far inside 64 bits.
constexpr std::int32_t kNumberMax = 1 << 24;

}  // namespace

std::string known_architectures() {
  std::string names;
  for (const Architecture& a : kArchitectures) names += (names.empty() ? "" : ", ") + std::string(a.name);
  return names + " and, for embeddings, bert";
}

Result<const Architecture*> find_architecture(const formats::ModelFile& file) {
  for (const Architecture& a : kArchitectures)
    if (file.config().architecture == a.name) return &a;
  return error(Errc::bad_config, fmt::format("{}: architecture '{}' is not supported; supported are {}", file.path(),
                                             file.config().architecture, known_architectures()));
}

Result<backend::GateKind> gate_kind(const formats::ModelFile& file) {
  const std::string& name = file.config().activation;
  if (name == "silu" || name == "swish") return backend::GateKind::silu;
  if (name == "gelu_pytorch_tanh" || name == "gelu_new" || name == "gelu_tanh") return backend::GateKind::gelu_tanh;
  return error(Errc::bad_config, fmt::format("{}: activation '{}' is not supported; supported are silu and "
                                             "gelu_pytorch_tanh", file.path(), name));
}

Result<> check_numbers(const formats::ModelFile& file) {
  const formats::ModelConfig& c = file.config();
  const auto bad = [&](const std::string& why) { return error(Errc::bad_file, file.path() + ": " + why); };
  const struct { const char* what; std::int32_t value; } counts[] = {
      {"layers", c.layers}, {"hidden size", c.hidden}, {"feed-forward size", c.ffn}, {"query heads", c.q_heads},
      {"key/value heads", c.kv_heads}, {"head size", c.head_dim}, {"vocabulary", c.vocab}, {"context", c.context}};
  for (const auto& [what, value] : counts)
    if (value <= 0 || value > kNumberMax)
      return bad(fmt::format("{} is {}, which must be between 1 and {}", what, value, kNumberMax));
  if (c.q_heads % c.kv_heads != 0)
    return bad(fmt::format("{} query heads cannot share {} key/value heads evenly", c.q_heads, c.kv_heads));
  if (c.rope_dims <= 0 || c.rope_dims % 2 != 0 || c.rope_dims > c.head_dim)
    return bad(fmt::format("{} rotated dimensions do not fit a head of {}: an even number up to it is needed",
                           c.rope_dims, c.head_dim));
  if (!(c.norm_epsilon > 0) || !std::isfinite(c.norm_epsilon))
    return bad(fmt::format("the norm's epsilon is {}, which must be positive", c.norm_epsilon));
  if (c.sliding_window < 0) return bad(fmt::format("the sliding window is {} tokens", c.sliding_window));
  return {};
}

backend::AttentionSpec attention_spec(const formats::ModelConfig& config) {
  return {.q_heads = config.q_heads, .kv_heads = config.kv_heads, .head_dim = config.head_dim,
          .scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(config.head_dim))),
          .window = config.sliding_window};
}

}  // namespace tokenworks::model
