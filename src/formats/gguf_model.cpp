// GGUF keys and tensor names in the vocabulary of ModelFile. Keys: ggml docs/gguf.md and gguf-py's constants (MIT).
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <set>

#include "formats/gguf_reader.hpp"
#include "formats/model_data.hpp"
#include "formats/text.hpp"

namespace tokenworks::formats {
namespace {

// Collects the first failure, so that a reader of many keys stays one line per key.
class Keys {
 public:
  explicit Keys(const GgufContainer& file) : file_(file) {}

  bool failed() const { return failure_.has_value(); }
  const Error& failure() const { return *failure_; }
  void fail(std::string what) {
    if (!failure_) failure_ = error(Errc::bad_file, file_.file() + ": " + std::move(what));
  }

  std::optional<std::int32_t> integer(const std::string& key) {
    const auto v = value(file_.integer(key));
    if (v && (*v < 0 || *v > std::numeric_limits<std::int32_t>::max())) {
      fail("metadata " + shown(key) + " is " + std::to_string(*v) + ", which is out of range");
      return std::nullopt;
    }
    return v ? std::optional(static_cast<std::int32_t>(*v)) : std::nullopt;
  }
  std::int32_t needed(const std::string& key) {
    const auto v = integer(key);
    if (!v) fail("metadata " + shown(key) + " is missing");
    return v.value_or(0);
  }
  // A size that newer files may give per layer: all layers must agree.
  std::optional<std::int32_t> per_layer(const std::string& key) {
    const GgufValue* v = file_.find(key);
    if (v == nullptr || !std::holds_alternative<GgufArray>(*v)) return integer(key);
    const auto all = value(file_.integers(key));
    if (!all || all->empty()) return std::nullopt;
    if (std::ranges::any_of(*all, [&](std::int32_t n) { return n != all->front(); })) {
      fail("metadata " + shown(key) + " differs between layers, which is not supported");
    }
    return all->front();
  }
  std::optional<float> number(const std::string& key) {
    const auto v = value(file_.number(key));
    return v ? std::optional(static_cast<float>(*v)) : std::nullopt;
  }
  std::optional<std::string> text(const std::string& key) { return value(file_.text(key)); }
  std::optional<bool> boolean(const std::string& key) { return value(file_.boolean(key)); }

  template <class T>
  std::optional<T> value(Result<std::optional<T>> read) {
    if (read) return std::move(*read);
    if (!failure_) failure_ = read.error();
    return std::nullopt;
  }
  const GgufContainer& file() const { return file_; }

 private:
  const GgufContainer& file_;
  std::optional<Error> failure_;
};

void read_rope(Keys& keys, const std::string& arch, ModelConfig& c) {
  const std::string at = arch + ".rope.";
  c.rope_base = keys.number(at + "freq_base").value_or(10000.0f);
  c.rope_dims = keys.integer(at + "dimension_count").value_or(c.head_dim);
  c.rope_interleaved = arch == "llama";  // its q and k rows were permuted at conversion; the others' were not
  c.rope_scaling = keys.text(at + "scaling.type").value_or("none");
  c.rope_factor = keys.number(at + "scaling.factor").value_or(keys.number(at + "scale_linear").value_or(1.0f));
  if (c.rope_factor == 0) c.rope_factor = 1;         // "not set" in some converters
  if (c.rope_scaling == "none" && keys.file().find(at + "scale_linear") != nullptr) c.rope_scaling = "linear";
  if (c.rope_scaling == "linear" && c.rope_factor == 1) c.rope_scaling = "none";
  c.rope_original_context = keys.integer(at + "scaling.original_context_length").value_or(0);
  if (c.rope_scaling == "yarn") {
    if (c.rope_original_context == 0) c.rope_original_context = c.context;
    c.rope_beta_fast = keys.number(at + "scaling.yarn_beta_fast").value_or(32.0f);
    c.rope_beta_slow = keys.number(at + "scaling.yarn_beta_slow").value_or(1.0f);
    const float scale = keys.number(at + "scaling.attn_factor").value_or(1.0f);
    c.rope_attention_factor = scale * (c.rope_factor > 1 ? 0.1f * std::log(c.rope_factor) + 1.0f : 1.0f);
  } else if (c.rope_scaling != "none" && c.rope_scaling != "linear") {
    keys.fail("rope scaling " + shown(c.rope_scaling) + " is not supported (none, linear and yarn are)");
  }
}

ModelConfig read_config(Keys& keys) {
  ModelConfig c;
  c.architecture = keys.text("general.architecture").value_or("");
  const std::string& arch = c.architecture;
  if (arch != "llama" && arch != "qwen2" && arch != "qwen3") {
    keys.fail(arch.empty() ? "metadata 'general.architecture' is missing"
                           : "architecture " + shown(arch) + " is not supported (llama, qwen2 and qwen3 are)");
    return c;
  }
  if (keys.integer("split.count").value_or(1) > 1) {
    keys.fail("is one part of a model split over several files; merge them first (llama-gguf-split --merge)");
  }
  if (keys.integer(arch + ".expert_count").value_or(0) > 0) keys.fail("mixture-of-experts models are not supported");
  c.name = keys.text("general.name").value_or("");
  c.layers = keys.needed(arch + ".block_count");
  c.hidden = keys.needed(arch + ".embedding_length");
  c.context = keys.needed(arch + ".context_length");
  const auto ffn = keys.per_layer(arch + ".feed_forward_length");
  const auto heads = keys.per_layer(arch + ".attention.head_count");
  if (!ffn) keys.fail("metadata '" + arch + ".feed_forward_length' is missing");
  if (!heads || *heads == 0) keys.fail("metadata '" + arch + ".attention.head_count' is missing or 0");
  if (keys.failed()) return c;
  c.ffn = *ffn;
  c.q_heads = *heads;
  c.kv_heads = keys.per_layer(arch + ".attention.head_count_kv").value_or(c.q_heads);
  c.head_dim = keys.integer(arch + ".attention.key_length").value_or(c.hidden / c.q_heads);
  if (keys.integer(arch + ".attention.value_length").value_or(c.head_dim) != c.head_dim) {
    keys.fail("keys and values of different length are not supported");
  }
  const auto epsilon = keys.number(arch + ".attention.layer_norm_rms_epsilon");
  if (!epsilon) keys.fail("metadata '" + arch + ".attention.layer_norm_rms_epsilon' is missing");
  c.norm_epsilon = epsilon.value_or(0);
  c.sliding_window = keys.integer(arch + ".attention.sliding_window").value_or(0);
  if (c.sliding_window >= c.context) c.sliding_window = 0;
  read_rope(keys, arch, c);
  return c;
}

// Spellings that end a turn or a text in the families served here. Files often name only one of them as eos.
bool ends_generation(std::string_view spelling) {
  static constexpr std::array<std::string_view, 9> kEnds = {"<|im_end|>",      "<|eot_id|>",    "<|eom_id|>",
                                                            "<|end_of_text|>", "<|endoftext|>", "<|end|>",
                                                            "<end_of_turn>",   "</s>",          "<EOT>"};
  return std::ranges::find(kEnds, spelling) != kEnds.end();
}

TokenizerData read_tokenizer(Keys& keys) {
  const std::string at = "tokenizer.ggml.";
  TokenizerData t;
  const auto model = keys.text(at + "model");
  if (model == "gpt2") {
    t.kind = TokenizerData::Kind::byte_bpe;
  } else if (model == "llama") {
    t.kind = TokenizerData::Kind::sentencepiece_bpe;
  } else {
    keys.fail(model ? "tokenizer " + shown(*model) + " is not supported (gpt2 and llama are)"
                    : "metadata 'tokenizer.ggml.model' is missing: the file brings no tokenizer");
    return t;
  }
  t.pre = keys.text(at + "pre").value_or("");
  t.tokens = keys.value(keys.file().texts(at + "tokens")).value_or(std::vector<std::string>{});
  t.scores = keys.value(keys.file().floats(at + "scores")).value_or(std::vector<float>{});
  t.types = keys.value(keys.file().integers(at + "token_type")).value_or(std::vector<std::int32_t>{});
  t.merges = keys.value(keys.file().texts(at + "merges")).value_or(std::vector<std::string>{});
  if (t.tokens.empty()) keys.fail("metadata 'tokenizer.ggml.tokens' is missing");
  if (t.kind == TokenizerData::Kind::byte_bpe && t.merges.empty() && !keys.failed()) {
    keys.fail("metadata 'tokenizer.ggml.merges' is missing");
  }

  const auto id = [&](const std::string& key) -> std::optional<TokenId> {
    const auto v = keys.value(keys.file().integer(at + key));
    if (!v || *v == 0xffffffff || *v == -1) return std::nullopt;      // some converters write "none" like this
    if (*v < 0 || *v >= static_cast<std::int64_t>(t.tokens.size())) {
      keys.fail("metadata " + shown(at + key) + " names token " + std::to_string(*v) + " of " +
                std::to_string(t.tokens.size()));
      return std::nullopt;
    }
    return static_cast<TokenId>(*v);
  };
  t.bos = id("bos_token_id");
  t.eos = id("eos_token_id");
  t.unknown = id("unknown_token_id");
  t.pad = id("padding_token_id");
  std::set<TokenId> stop;
  for (const auto& end : {t.eos, id("eot_token_id"), id("eom_token_id")}) {
    if (end) stop.insert(*end);
  }
  for (std::size_t i = 0; i < t.types.size() && i < t.tokens.size(); ++i) {
    const bool special = t.types[i] == 3 || t.types[i] == 4;          // control, user-defined
    if (special && ends_generation(t.tokens[i])) stop.insert(static_cast<TokenId>(i));
  }
  t.stop.assign(stop.begin(), stop.end());
  t.add_bos = keys.boolean(at + "add_bos_token");
  t.add_eos = keys.boolean(at + "add_eos_token");
  t.add_space_prefix = keys.boolean(at + "add_space_prefix");
  t.chat_template = keys.text("tokenizer.chat_template").value_or("");
  const std::pair<const char*, std::optional<TokenId>> named[] = {
      {"bos_token", t.bos}, {"eos_token", t.eos}, {"unk_token", t.unknown}, {"pad_token", t.pad}};
  for (const auto& [name, token] : named) {
    if (token) t.special_strings[name] = t.tokens[static_cast<std::size_t>(*token)];
  }
  return t;
}

struct NamePair {
  std::string_view gguf, hugging_face;
};
constexpr NamePair kWhole[] = {{"token_embd.weight", "model.embed_tokens.weight"},
                               {"output_norm.weight", "model.norm.weight"},
                               {"output.weight", "lm_head.weight"}};
constexpr NamePair kInLayer[] = {
    {"attn_q", "self_attn.q_proj"},      {"attn_k", "self_attn.k_proj"},      {"attn_v", "self_attn.v_proj"},
    {"attn_output", "self_attn.o_proj"}, {"attn_q_norm", "self_attn.q_norm"}, {"attn_k_norm", "self_attn.k_norm"},
    {"ffn_gate", "mlp.gate_proj"},       {"ffn_up", "mlp.up_proj"},           {"ffn_down", "mlp.down_proj"},
    {"attn_norm", "input_layernorm"},    {"ffn_norm", "post_attention_layernorm"}};
using Side = std::string_view NamePair::*;

// A name of one side as the other side writes it: <prefix>3.<stem>.weight; one without a counterpart stays as it is.
std::string translated(const std::string& name, Side from, std::string_view prefix, Side to, std::string_view other_prefix) {
  for (const NamePair& pair : kWhole) {
    if (name == pair.*from) return std::string(pair.*to);
  }
  if (!name.starts_with(prefix)) return name;
  const std::size_t layer = prefix.size(), stem = name.find('.', layer), kind = name.rfind('.');
  if (stem == std::string::npos || kind <= stem) return name;
  const std::string_view what = std::string_view(name).substr(stem + 1, kind - stem - 1);
  for (const NamePair& pair : kInLayer) {
    if (what != pair.*from) continue;
    return std::string(other_prefix) + name.substr(layer, stem + 1 - layer) + std::string(pair.*to) + name.substr(kind);
  }
  return name;
}

// "blk.3.attn_q.weight" -> "model.layers.3.self_attn.q_proj.weight"
std::string hugging_face_name(const std::string& name) {
  return translated(name, &NamePair::gguf, "blk.", &NamePair::hugging_face, "model.layers.");
}

}  // namespace

std::string gguf_name(const std::string& name) {
  return translated(name, &NamePair::hugging_face, "model.layers.", &NamePair::gguf, "blk.");
}

Result<ModelData> read_gguf(std::shared_ptr<const ByteSource> source) {
  ModelData model;
  model.path = source->name();
  model.format = "gguf";
  model.sources.push_back(source);
  auto bytes = resident(*source, model.copies);
  if (!bytes) return bytes.error();
  auto file = GgufContainer::read(source->name(), *bytes);
  if (!file) return file.error();

  Keys keys(*file);
  model.config = read_config(keys);
  if (!keys.failed()) model.tokenizer = read_tokenizer(keys);
  if (keys.failed()) return keys.failure();
  for (const TensorView& tensor : file->tensors()) {
    if (tensor.name == "rope_freqs.weight") {
      if (tensor.type != TensorType::f32) {
        return error(Errc::bad_file, model.path + ": tensor 'rope_freqs.weight' is not F32");
      }
      model.config.rope_factors.resize(static_cast<std::size_t>(tensor.elements()));
      dequantize(tensor.type, tensor.bytes, model.config.rope_factors);
      continue;
    }
    TensorView named = tensor;
    named.name = hugging_face_name(tensor.name);
    const std::string key = named.name;
    if (!model.tensors.emplace(key, std::move(named)).second) {
      return error(Errc::bad_file,
                   model.path + ": tensors " + shown(tensor.name) + " and " + shown(key) + " are the same");
    }
  }
  const auto embedding = model.tensors.find("model.embed_tokens.weight");
  if (embedding == model.tensors.end()) {
    return error(Errc::bad_file, model.path + ": tensor 'token_embd.weight' is missing");
  }
  const std::int64_t vocab = embedding->second.rows();
  if (vocab > 1 << 26) {
    return error(Errc::bad_file, model.path + ": tensor 'token_embd.weight' has " + std::to_string(vocab) + " rows");
  }
  model.config.vocab = static_cast<std::int32_t>(vocab);
  model.config.tied_embeddings = !model.tensors.contains("lm_head.weight");
  if (auto ok = check(model.path, model); !ok) return ok.error();
  return model;
}

}  // namespace tokenworks::formats
