#include "tokenworks/formats/inspect.hpp"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

namespace tokenworks::formats {
namespace {

using Ordered = nlohmann::ordered_json;

const char* name(TokenizerData::Kind kind) {
  switch (kind) {
    case TokenizerData::Kind::byte_bpe: return "byte-level BPE";
    case TokenizerData::Kind::sentencepiece_bpe: return "SentencePiece BPE";
    case TokenizerData::Kind::tokenizer_json: return "tokenizer.json";
  }
  return "";
}

struct TypeSum {
  std::uint64_t tensors = 0, bytes = 0;
};
std::map<TensorType, TypeSum> by_type(const ModelFile& file) {
  std::map<TensorType, TypeSum> out;
  for (const auto& [key, tensor] : file.tensors()) {
    TypeSum& sum = out[tensor.type];
    ++sum.tensors;
    sum.bytes += tensor.bytes.size();
  }
  return out;
}

std::uint64_t file_bytes(const ModelFile& file) {
  std::uint64_t bytes = 0;
  for (const auto& source : file.sources()) bytes += source->size();
  return bytes;
}

std::string count(std::uint64_t n) {                 // "134.5 M"
  if (n >= 1'000'000'000) return fmt::format("{:.4g} G", static_cast<double>(n) / 1e9);
  if (n >= 1'000'000) return fmt::format("{:.4g} M", static_cast<double>(n) / 1e6);
  return std::to_string(n);
}

// Text from the file, safe for a terminal: control characters could rewrite what is on the screen.
std::string visible(std::string_view text) {
  std::string out;
  for (const char c : text.substr(0, 200)) out += static_cast<unsigned char>(c) < 32 || c == 127 ? '?' : c;
  return out;
}

std::string rope(const ModelConfig& c) {
  std::string out = fmt::format("base {:g}", c.rope_base);
  if (c.rope_dims != c.head_dim) out += fmt::format(", {} of {} dimensions", c.rope_dims, c.head_dim);
  if (c.rope_scaling != "none") out += fmt::format(", {} x{:g}", c.rope_scaling, c.rope_factor);
  if (c.rope_original_context > 0) out += fmt::format(" from {} tokens", c.rope_original_context);
  if (!c.rope_factors.empty()) out += ", factors in the file";
  return out;
}

}  // namespace

std::string format_bytes(std::uint64_t bytes) {
  static constexpr const char* kUnits[] = {"kB", "MB", "GB", "TB", "PB", "EB"};
  if (bytes < 1000) return std::to_string(bytes) + " B";
  double value = static_cast<double>(bytes);
  int unit = -1;
  while (value >= 999.5 && unit < 5) value /= 1000, ++unit;
  return fmt::format("{:.{}f} {}", value, value < 9.995 ? 2 : value < 99.95 ? 1 : 0, kUnits[unit]);
}

MemoryNeed memory_need(const ModelFile& file) {
  MemoryNeed need;
  for (const auto& [key, tensor] : file.tensors()) {
    need.weights += tensor.bytes.size();
    need.parameters += static_cast<std::uint64_t>(tensor.elements());
  }
  const ModelConfig& c = file.config();
  constexpr std::uint64_t kKeysAndValues = 2, kBf16Bytes = 2;
  need.kv_per_token = kKeysAndValues * kBf16Bytes * static_cast<std::uint64_t>(c.layers) *
                      static_cast<std::uint64_t>(c.kv_heads) * static_cast<std::uint64_t>(c.head_dim);
  need.kv_full_context = need.kv_per_token * static_cast<std::uint64_t>(c.context);
  return need;
}

std::string inspect_text(const ModelFile& file, const Digest* digest, bool all_tensors) {
  const ModelConfig& c = file.config();
  const TokenizerData& t = file.tokenizer();
  const MemoryNeed need = memory_need(file);
  std::string out;
  const auto line = [&](const char* label, const std::string& value) {
    out += fmt::format("{:<15}{}\n", label, value);
  };
  line("file", fmt::format("{} ({}, {} in {} file{})", file.path(), file.format(), format_bytes(file_bytes(file)),
                           file.sources().size(), file.sources().size() == 1 ? "" : "s"));
  if (!c.name.empty()) line("name", visible(c.name));
  line("architecture", c.architecture);
  line("parameters", count(need.parameters));
  line("layers", fmt::format("{}, hidden {}, feed-forward {} ({})", c.layers, c.hidden, c.ffn, c.activation));
  line("attention", fmt::format("{} heads of {}, {} for keys and values{}", c.q_heads, c.head_dim, c.kv_heads,
                                c.sliding_window > 0 ? fmt::format(", sliding window {}", c.sliding_window) : ""));
  line("rope", rope(c));
  line("vocabulary", fmt::format("{}{}", c.vocab, c.tied_embeddings ? ", tied embeddings" : ""));
  line("context", fmt::format("{} tokens", c.context));
  std::string tokenizer = name(t.kind);
  if (!t.pre.empty()) tokenizer += " (" + visible(t.pre) + ")";
  if (!t.tokens.empty()) tokenizer += fmt::format(", {} tokens", t.tokens.size());
  line("tokenizer", tokenizer + fmt::format(", stops at {}",
                                            t.stop.empty() ? "nothing" : fmt::format("{}", fmt::join(t.stop, ", "))));
  line("chat template", t.chat_template.empty() ? "none: the default (ChatML) is used"
                                                : fmt::format("yes, {} characters", t.chat_template.size()));
  for (const auto& [type, sum] : by_type(file)) {
    line("tensors", fmt::format("{:<5}{:>5}  {:>8}", formats::name(type), sum.tensors, format_bytes(sum.bytes)));
  }
  line("memory", fmt::format("{} of weights; {} of KV per token, {} for one full context", format_bytes(need.weights),
                             format_bytes(need.kv_per_token), format_bytes(need.kv_full_context)));
  if (digest != nullptr) line("digest", hex(*digest));
  if (all_tensors) {
    for (const auto& [key, tensor] : file.tensors()) {
      out +=
          fmt::format("  {:<56} {:<5} [{}]\n", visible(key), formats::name(tensor.type), fmt::join(tensor.shape, ", "));
    }
  }
  return out;
}

std::string inspect_json(const ModelFile& file, const Digest* digest, bool all_tensors) {
  const ModelConfig& c = file.config();
  const TokenizerData& t = file.tokenizer();
  const MemoryNeed need = memory_need(file);
  Ordered j;
  j["path"] = file.path();
  j["format"] = file.format();
  j["bytes"] = file_bytes(file);
  for (const auto& source : file.sources()) j["files"].push_back({{"name", source->name()}, {"bytes", source->size()}});
  j["name"] = c.name;
  j["architecture"] = c.architecture;
  j["parameters"] = need.parameters;
  j["config"] = {{"layers", c.layers},
                 {"hidden", c.hidden},
                 {"ffn", c.ffn},
                 {"q_heads", c.q_heads},
                 {"kv_heads", c.kv_heads},
                 {"head_dim", c.head_dim},
                 {"vocab", c.vocab},
                 {"context", c.context},
                 {"norm_epsilon", c.norm_epsilon},
                 {"rope_base", c.rope_base},
                 {"rope_dims", c.rope_dims},
                 {"rope_interleaved", c.rope_interleaved},
                 {"rope_scaling", c.rope_scaling},
                 {"rope_factor", c.rope_factor},
                 {"rope_original_context", c.rope_original_context},
                 {"sliding_window", c.sliding_window},
                 {"tied_embeddings", c.tied_embeddings},
                 {"activation", c.activation}};
  const auto id = [](const std::optional<TokenId>& token) { return token ? Ordered(*token) : Ordered(nullptr); };
  j["tokenizer"] = {{"kind", name(t.kind)},  {"pre", t.pre},     {"tokens", t.tokens.size()}, {"bos", id(t.bos)},
                    {"eos", id(t.eos)},      {"stop", t.stop},   {"chat_template", !t.chat_template.empty()}};
  Ordered types = Ordered::object();
  for (const auto& [type, sum] : by_type(file)) {
    types[formats::name(type)] = {{"tensors", sum.tensors}, {"bytes", sum.bytes}};
  }
  j["tensor_types"] = types;
  j["memory"] = {
      {"weights", need.weights}, {"kv_per_token", need.kv_per_token}, {"kv_full_context", need.kv_full_context}};
  if (digest != nullptr) j["digest"] = hex(*digest);
  if (all_tensors) {
    Ordered tensors = Ordered::array();
    for (const auto& [key, tensor] : file.tensors()) {
      tensors.push_back({{"name", key},
                         {"type", formats::name(tensor.type)},
                         {"shape", tensor.shape},
                         {"bytes", tensor.bytes.size()}});
    }
    j["tensors"] = tensors;
  }
  return j.dump(2, ' ', false, Ordered::error_handler_t::replace);
}

}  // namespace tokenworks::formats
