#include "formats/hf_config.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "formats/text.hpp"

namespace tokenworks::formats {
namespace {

// Reads keys of one object and remembers the first failure. null counts as absent, as in Python.
class Object {
 public:
  Object(const std::string& file, const Json& json, std::optional<Error>& failure)
      : file_(file), json_(json), failure_(failure) {}

  const Json* find(const char* key) const {
    const auto it = json_.find(key);
    return it == json_.end() || it->is_null() ? nullptr : &*it;
  }
  void fail(const std::string& what) {
    if (!failure_) failure_ = error(Errc::bad_file, file_ + ": " + what);
  }
  std::int32_t integer(const char* key, std::int32_t otherwise) {
    const Json* v = find(key);
    if (v == nullptr) return otherwise;
    if (!v->is_number_integer() || *v < 0 || *v > std::numeric_limits<std::int32_t>::max()) {
      fail(std::string("'") + key + "' is not a whole number in range");
      return otherwise;
    }
    return v->get<std::int32_t>();
  }
  std::int32_t needed(const char* key) {
    if (find(key) == nullptr) fail(std::string("'") + key + "' is missing");
    return integer(key, 0);
  }
  float number(const char* key, float otherwise) {
    const Json* v = find(key);
    if (v == nullptr) return otherwise;
    if (!v->is_number()) {
      fail(std::string("'") + key + "' is not a number");
      return otherwise;
    }
    return v->get<float>();
  }
  bool boolean(const char* key, bool otherwise) {
    const Json* v = find(key);
    if (v == nullptr) return otherwise;
    if (!v->is_boolean()) fail(std::string("'") + key + "' is not true or false");
    return v->is_boolean() ? v->get<bool>() : otherwise;
  }
  std::string text(const char* key, const char* otherwise) {
    const Json* v = find(key);
    if (v == nullptr) return otherwise;
    if (!v->is_string()) fail(std::string("'") + key + "' is not text");
    return v->is_string() ? v->get<std::string>() : otherwise;
  }

 private:
  const std::string& file_;
  const Json& json_;
  std::optional<Error>& failure_;
};

std::string architecture_of(const Json& config) {
  static const std::map<std::string, std::string, std::less<>> kClasses = {{"LlamaForCausalLM", "llama"},
                                                                           {"MistralForCausalLM", "mistral"},
                                                                           {"Qwen2ForCausalLM", "qwen2"},
                                                                           {"Qwen3ForCausalLM", "qwen3"},
                                                                           {"BertModel", "bert"},
                                                                           {"BertForMaskedLM", "bert"}};
  const auto type = config.find("model_type");
  if (type != config.end() && type->is_string()) return type->get<std::string>();
  const auto classes = config.find("architectures");
  if (classes == config.end() || !classes->is_array() || classes->empty() || !classes->front().is_string()) return "";
  const auto name = classes->front().get<std::string>();
  const auto it = kClasses.find(name);
  return it == kClasses.end() ? name : it->second;
}

float yarn_scale(float factor, float multiplier) {
  return factor <= 1 ? 1.0f : 0.1f * multiplier * std::log(factor) + 1.0f;
}

// transformers' modeling_rope_utils: names, defaults and the attention factor of YaRN.
void read_rope(const std::string& file, const Json& config, ModelConfig& c, std::optional<Error>& failure) {
  static const Json kNone = Json::object();
  Object whole(file, config, failure);
  const Json* nested = whole.find("rope_parameters");
  if (nested == nullptr) nested = whole.find("rope_scaling");
  if (nested != nullptr && !nested->is_object()) whole.fail("the rope settings are not an object");
  const Json& json = nested != nullptr && nested->is_object() ? *nested : kNone;
  Object rope(file, json, failure);
  for (const auto& [key, value] : json.items()) {
    if (value.is_object()) return whole.fail("rope settings per layer type (" + shown(key) + ") are not supported");
  }
  c.rope_base = rope.number("rope_theta", whole.number("rope_theta", 10000.0f));
  const float partial = rope.number("partial_rotary_factor", whole.number("partial_rotary_factor", 1.0f));
  if (!(partial > 0 && partial <= 1)) return whole.fail("'partial_rotary_factor' is not between 0 and 1");
  c.rope_dims = static_cast<std::int32_t>(static_cast<float>(c.head_dim) * partial);
  const std::string type = rope.text("rope_type", rope.text("type", "default").c_str());
  const auto factor = [&] {
    if (rope.find("factor") == nullptr) rope.fail("rope scaling " + shown(type) + " needs 'factor'");
    return rope.number("factor", 1);
  };
  const auto original_context = [&] {
    return whole.integer("original_max_position_embeddings",
                         rope.integer("original_max_position_embeddings", c.context));
  };
  if (type == "default") return;
  if (type == "linear") {
    c.rope_scaling = type;
    c.rope_factor = factor();
  } else if (type == "llama3") {
    c.rope_scaling = type;
    c.rope_factor = factor();
    c.rope_low_freq = rope.number("low_freq_factor", 1);
    c.rope_high_freq = rope.number("high_freq_factor", 4);
    c.rope_original_context = original_context();
  } else if (type == "yarn") {
    c.rope_scaling = type;
    c.rope_original_context = original_context();
    c.rope_factor =
        rope.number("factor", static_cast<float>(c.context) / static_cast<float>(std::max(1, c.rope_original_context)));
    c.rope_beta_fast = rope.number("beta_fast", 32);
    c.rope_beta_slow = rope.number("beta_slow", 1);
    const float mscale = rope.number("mscale", 0), all = rope.number("mscale_all_dim", 0);
    const float usual = mscale != 0 && all != 0 ? yarn_scale(c.rope_factor, mscale) / yarn_scale(c.rope_factor, all)
                                                : yarn_scale(c.rope_factor, 1);
    c.rope_attention_factor = rope.number("attention_factor", usual);
    if (!rope.boolean("truncate", true)) whole.fail("yarn rope scaling with 'truncate': false is not supported");
  } else {
    whole.fail("rope scaling " + shown(type) + " is not supported (default, linear, llama3 and yarn are)");
  }
}

// Mistral slides in every layer; Qwen only when `use_sliding_window` is on, and then from layer `max_window_layers`.
void read_window(Object& o, ModelConfig& c) {
  if (c.architecture == "llama") return;
  const std::int32_t window = o.integer("sliding_window", 0);
  if (window == 0 || window >= c.context) return;
  const bool qwen = c.architecture != "mistral";
  if (qwen && !o.boolean("use_sliding_window", false)) return;
  std::int32_t sliding = qwen ? c.layers - std::min(c.layers, o.integer("max_window_layers", 28)) : c.layers;
  if (const Json* types = o.find("layer_types"); types != nullptr && types->is_array()) {
    sliding = static_cast<std::int32_t>(std::ranges::count(*types, Json("sliding_attention")));
  }
  if (sliding == 0) return;
  if (sliding != c.layers) {
    o.fail("a sliding window in " + std::to_string(sliding) + " of " + std::to_string(c.layers) +
           " layers is not supported");
  }
  c.sliding_window = window;
}

// transformers' configuration_bert: what differs from a decoder's.
void read_encoder(Object& o, ModelConfig& c) {
  c.norm_epsilon = o.number("layer_norm_eps", 1e-12f);
  c.token_types = o.integer("type_vocab_size", 2);
  c.activation = o.text("hidden_act", "gelu");
  c.tied_embeddings = true;
  c.rope_dims = c.head_dim;                          // there is none: a number that passes the common checks
  if (const std::string kind = o.text("position_embedding_type", "absolute"); kind != "absolute")
    o.fail("position embeddings of type " + shown(kind) + " are not supported (absolute ones are)");
  if (o.boolean("is_decoder", false)) o.fail("'is_decoder' is true; a BERT that decodes is not supported");
  if (c.q_heads > 0 && c.hidden % c.q_heads != 0)
    o.fail(std::to_string(c.q_heads) + " attention heads do not divide a hidden size of " + std::to_string(c.hidden));
  if (c.token_types < 1) o.fail("'type_vocab_size' must be at least 1");
}

}  // namespace

Result<ModelConfig> read_hf_config(const std::string& file, const Json& config) {
  if (!config.is_object()) return error(Errc::bad_file, file + ": is not a JSON object");
  ModelConfig c;
  std::optional<Error> failure;
  Object o(file, config, failure);
  c.architecture = architecture_of(config);
  const bool encoder = c.architecture == "bert";
  if (!encoder && c.architecture != "llama" && c.architecture != "mistral" && c.architecture != "qwen2" &&
      c.architecture != "qwen3") {
    return error(Errc::bad_file,
                 file + ": " +
                     (c.architecture.empty() ? std::string("names no model_type")
                                             : "architecture " + shown(c.architecture) + " is not supported") +
                     " (llama, mistral, qwen2, qwen3 and bert are)");
  }
  if (const Json* q = o.find("quantization_config"); q != nullptr) {
    const auto method = q->is_object() ? q->value("quant_method", Json("unknown")) : Json("unknown");
    return error(Errc::bad_file, file + ": weights quantised as " +
                                     shown(method.is_string() ? method.get<std::string>() : "unknown") +
                                     " are not supported; take the original weights or a GGUF file");
  }
  c.name = o.text("_name_or_path", "");
  c.layers = o.needed("num_hidden_layers");
  c.hidden = o.needed("hidden_size");
  c.ffn = o.needed("intermediate_size");
  c.q_heads = o.needed("num_attention_heads");
  c.kv_heads = o.integer("num_key_value_heads", c.q_heads);
  c.head_dim = o.integer("head_dim", c.q_heads > 0 ? c.hidden / c.q_heads : 0);
  c.vocab = o.needed("vocab_size");
  c.context = o.integer("max_position_embeddings", 2048);
  if (encoder) {
    read_encoder(o, c);
    if (failure) return *failure;
    return c;
  }
  c.norm_epsilon = o.number("rms_norm_eps", 1e-6f);
  c.tied_embeddings = o.boolean("tie_word_embeddings", false);
  c.activation = o.text("hidden_act", "silu");
  if (c.activation == "swish") c.activation = "silu";
  if (c.activation != "silu") o.fail("activation " + shown(c.activation) + " is not supported (silu is)");
  read_rope(file, config, c, failure);
  read_window(o, c);
  if (failure) return *failure;
  return c;
}

}  // namespace tokenworks::formats
