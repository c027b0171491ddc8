#include <fmt/format.h>

#include <cmath>

#include "formats/model_data.hpp"
#include "formats/text.hpp"

namespace tokenworks::formats {
namespace {

struct Range {
  const char* what;
  std::int64_t value, least, most;
};

Result<> check_sizes(const std::string& file, const ModelConfig& c) {
  const Range ranges[] = {{"layers", c.layers, 1, 4096},
                          {"hidden size", c.hidden, 1, 1 << 20},
                          {"feed-forward size", c.ffn, 1, 1 << 22},
                          {"attention heads", c.q_heads, 1, 1 << 14},
                          {"key/value heads", c.kv_heads, 1, 1 << 14},
                          {"head size", c.head_dim, 2, 1 << 14},
                          {"vocabulary", c.vocab, 1, 1 << 26},
                          {"context", c.context, 1, 1 << 28},
                          {"rotated dimensions", c.rope_dims, 2, c.head_dim},
                          {"original context of the rope scaling", c.rope_original_context, 0, 1 << 28},
                          {"sliding window", c.sliding_window, 0, 1 << 28}};
  for (const Range& r : ranges) {
    if (r.value < r.least || r.value > r.most) {
      return error(Errc::bad_file,
                   fmt::format("{}: {} is {}; from {} to {} is possible", file, r.what, r.value, r.least, r.most));
    }
  }
  if (c.q_heads % c.kv_heads != 0) {
    return error(Errc::bad_file, fmt::format("{}: {} attention heads cannot share {} key/value heads evenly", file,
                                             c.q_heads, c.kv_heads));
  }
  if (c.rope_dims % 2 != 0) {
    return error(Errc::bad_file, fmt::format("{}: rotated dimensions are {}, an odd number", file, c.rope_dims));
  }
  const auto positive = [](float f) { return std::isfinite(f) && f > 0; };
  if (!positive(c.norm_epsilon) || c.norm_epsilon > 1) {
    return error(Errc::bad_file, fmt::format("{}: norm epsilon {} is not between 0 and 1", file, c.norm_epsilon));
  }
  if (!positive(c.rope_base) || !positive(c.rope_factor) || !positive(c.rope_low_freq) || !positive(c.rope_high_freq) ||
      !positive(c.rope_beta_fast) || !positive(c.rope_beta_slow) || !std::isfinite(c.rope_attention_factor)) {
    return error(Errc::bad_file, file + ": a rope setting is not a positive number");
  }
  if (c.rope_scaling == "llama3" && !(c.rope_high_freq > c.rope_low_freq)) {
    return error(Errc::bad_file, file + ": llama3 rope scaling needs high_freq_factor above low_freq_factor");
  }
  if ((c.rope_scaling == "llama3" || c.rope_scaling == "yarn") && c.rope_original_context == 0) {
    return error(Errc::bad_file, file + ": " + c.rope_scaling + " rope scaling needs the original context");
  }
  if (!c.rope_factors.empty() && static_cast<std::int64_t>(c.rope_factors.size()) != c.rope_dims / 2) {
    return error(Errc::bad_file, fmt::format("{}: {} rope factors for {} rotated dimensions; half as many are needed",
                                             file, c.rope_factors.size(), c.rope_dims));
  }
  for (const float f : c.rope_factors) {
    if (!positive(f)) return error(Errc::bad_file, file + ": a rope factor is not a positive number");
  }
  return {};
}

class TensorCheck {
 public:
  TensorCheck(const std::string& file, const ModelData& model) : file_(file), model_(model) {}

  void need(const std::string& name, std::vector<std::int64_t> shape) { look(name, shape, true); }
  void may(const std::string& name, std::vector<std::int64_t> shape) { look(name, shape, false); }
  const std::optional<Error>& failure() const { return failure_; }

 private:
  static std::string written(const std::vector<std::int64_t>& shape) {
    return fmt::format("[{}]", fmt::join(shape, ", "));
  }

  std::string in_file(const std::string& name) const { return model_.format == "gguf" ? gguf_name(name) : name; }

  void look(const std::string& name, const std::vector<std::int64_t>& shape, bool needed) {
    if (failure_) return;
    const auto it = model_.tensors.find(name);
    if (it == model_.tensors.end()) {
      if (needed) {
        failure_ = error(Errc::bad_file, fmt::format("{}: tensor '{}' is missing; {} with {} layers needs it", file_,
                                                     in_file(name), model_.config.architecture, model_.config.layers));
      }
      return;
    }
    if (it->second.shape != shape) {
      failure_ = error(Errc::bad_file, fmt::format("{}: tensor '{}' has shape {}; the configuration means {}", file_,
                                                   in_file(name), written(it->second.shape), written(shape)));
    }
  }

  const std::string& file_;
  const ModelData& model_;
  std::optional<Error> failure_;
};

Result<> check_encoder_tensors(const std::string& file, const ModelData& model) {
  const ModelConfig& c = model.config;
  const std::int64_t hidden = c.hidden, ffn = c.ffn;
  TensorCheck tensors(file, model);
  const auto pair = [&](const std::string& name, std::vector<std::int64_t> shape) {
    const std::int64_t rows = shape.front();
    tensors.need(name + ".weight", std::move(shape));
    tensors.need(name + ".bias", {rows});
  };
  tensors.need("embeddings.word_embeddings.weight", {c.vocab, hidden});
  tensors.need("embeddings.position_embeddings.weight", {c.context, hidden});
  tensors.need("embeddings.token_type_embeddings.weight", {c.token_types, hidden});
  pair("embeddings.LayerNorm", {hidden});
  for (std::int32_t layer = 0; layer < c.layers && !tensors.failure(); ++layer) {
    const std::string at = "encoder.layer." + std::to_string(layer) + ".";
    for (const char* name : {"query", "key", "value"}) pair(at + "attention.self." + name, {hidden, hidden});
    pair(at + "attention.output.dense", {hidden, hidden});
    pair(at + "attention.output.LayerNorm", {hidden});
    pair(at + "intermediate.dense", {ffn, hidden});
    pair(at + "output.dense", {hidden, ffn});
    pair(at + "output.LayerNorm", {hidden});
  }
  if (tensors.failure()) return *tensors.failure();
  return {};
}

Result<> check_tensors(const std::string& file, const ModelData& model) {
  const ModelConfig& c = model.config;
  if (c.architecture == "bert") return check_encoder_tensors(file, model);
  const std::int64_t hidden = c.hidden, ffn = c.ffn, head = c.head_dim, q = head * c.q_heads, kv = head * c.kv_heads;
  TensorCheck tensors(file, model);
  tensors.need("model.embed_tokens.weight", {c.vocab, hidden});
  tensors.need("model.norm.weight", {hidden});
  if (!c.tied_embeddings) tensors.need("lm_head.weight", {c.vocab, hidden});
  for (std::int32_t layer = 0; layer < c.layers && !tensors.failure(); ++layer) {
    const std::string at = "model.layers." + std::to_string(layer) + ".";
    tensors.need(at + "input_layernorm.weight", {hidden});
    tensors.need(at + "self_attn.q_proj.weight", {q, hidden});
    tensors.need(at + "self_attn.k_proj.weight", {kv, hidden});
    tensors.need(at + "self_attn.v_proj.weight", {kv, hidden});
    tensors.need(at + "self_attn.o_proj.weight", {hidden, q});
    tensors.need(at + "post_attention_layernorm.weight", {hidden});
    tensors.need(at + "mlp.gate_proj.weight", {ffn, hidden});
    tensors.need(at + "mlp.up_proj.weight", {ffn, hidden});
    tensors.need(at + "mlp.down_proj.weight", {hidden, ffn});
    const bool biased = c.architecture == "qwen2", normed = c.architecture == "qwen3";
    const auto bias = [&](const char* name, std::int64_t size) {
      biased ? tensors.need(at + name, {size}) : tensors.may(at + name, {size});
    };
    bias("self_attn.q_proj.bias", q);
    bias("self_attn.k_proj.bias", kv);
    bias("self_attn.v_proj.bias", kv);
    tensors.may(at + "self_attn.o_proj.bias", {hidden});
    tensors.may(at + "mlp.gate_proj.bias", {ffn});
    tensors.may(at + "mlp.up_proj.bias", {ffn});
    tensors.may(at + "mlp.down_proj.bias", {hidden});
    if (normed) {
      tensors.need(at + "self_attn.q_norm.weight", {head});
      tensors.need(at + "self_attn.k_norm.weight", {head});
    }
  }
  if (tensors.failure()) return *tensors.failure();
  return {};
}

Result<> check_tokenizer(const std::string& file, const ModelData& model) {
  const TokenizerData& t = model.tokenizer;
  const auto inside = [&](TokenId id) { return id >= 0 && id < model.config.vocab; };
  const std::pair<const char*, std::optional<TokenId>> ids[] = {
      {"begin", t.bos}, {"end", t.eos}, {"unknown", t.unknown}, {"padding", t.pad}};
  for (const auto& [what, id] : ids) {
    if (id && !inside(*id)) {
      return error(Errc::bad_file, fmt::format("{}: the {} token {} is outside the vocabulary of {}", file, what, *id,
                                               model.config.vocab));
    }
  }
  for (const TokenId id : t.stop) {
    if (!inside(id)) {
      return error(Errc::bad_file,
                   fmt::format("{}: the stop token {} is outside the vocabulary of {}", file, id, model.config.vocab));
    }
  }
  if (t.kind == TokenizerData::Kind::tokenizer_json) return {};
  if (t.tokens.empty() || static_cast<std::int64_t>(t.tokens.size()) > model.config.vocab) {
    return error(Errc::bad_file, fmt::format("{}: the tokenizer has {} tokens and the model a vocabulary of {}", file,
                                             t.tokens.size(), model.config.vocab));
  }
  if (!t.types.empty() && t.types.size() != t.tokens.size()) {
    return error(Errc::bad_file,
                 fmt::format("{}: {} token types for {} tokens", file, t.types.size(), t.tokens.size()));
  }
  if (t.kind == TokenizerData::Kind::sentencepiece_bpe && t.scores.size() != t.tokens.size()) {
    return error(Errc::bad_file,
                 fmt::format("{}: {} token scores for {} tokens", file, t.scores.size(), t.tokens.size()));
  }
  return {};
}

}  // namespace

Result<> check(const std::string& file, const ModelData& model) {
  if (auto ok = check_sizes(file, model.config); !ok) return ok;
  if (auto ok = check_tensors(file, model); !ok) return ok;
  return check_tokenizer(file, model);
}

}  // namespace tokenworks::formats
